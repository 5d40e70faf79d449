"""Changes of the schema since the first release. Run by ``feedback/store/migrate.py``."""
