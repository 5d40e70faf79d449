"""Training loops: learner, driver, reference, checkpoints. Hand out a trained model."""
