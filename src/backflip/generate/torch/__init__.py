"""Generation with the learner's own torch model."""
