"""Sampling of answers. Receives a policy and prompts; hands out rollouts."""
