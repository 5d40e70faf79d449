"""Act. Receives a policy and prompts; hands out rollouts."""
