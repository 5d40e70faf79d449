"""Judges. Receive rollouts; hand out one score per answer."""
