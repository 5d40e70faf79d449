"""Learn. Receives roles and an algorithm; hands out a trained model."""
