"""Simulated raters, and the planning of annotation."""
