"""Every schema that was ever released, one file a step. Run by ``feedback/migrate.py``."""
