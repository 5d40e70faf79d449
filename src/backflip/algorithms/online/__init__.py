"""Algorithms that learn from the policy's own rewarded answers."""
