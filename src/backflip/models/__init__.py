"""Models. Receives token records; hands out log-probabilities, values and scores."""
