"""Answers on disk: drawn from a policy, scored by a judge, chosen from."""
