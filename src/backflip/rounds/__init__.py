"""Iterative learning: sampling, judging, choosing and training in rounds."""
