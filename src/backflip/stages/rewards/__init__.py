"""Sources of reward as settings: models, functions, verifiers, judges, mixes."""
