"""Objectives of the direct family, which learn from preferences without a reward model."""
