"""vLLM in an environment of its own: its server is started, watched, and handed all weights."""
