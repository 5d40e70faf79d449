"""Measurements with intervals: accuracy, calibration, win rates, best of n, perplexity."""
