"""Alarm rules, by what they look at; each view lists its own."""
