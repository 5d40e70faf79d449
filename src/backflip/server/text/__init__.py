"""Text of models as safe HTML."""
