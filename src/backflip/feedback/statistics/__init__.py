"""Weigh what many raters said. Receives judgements as arrays; hands out statistics and labels."""
