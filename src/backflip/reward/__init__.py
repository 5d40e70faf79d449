"""Judge. Receives rollouts; hands out one score per answer."""
