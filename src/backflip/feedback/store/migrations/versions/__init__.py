"""One revision a file, the oldest first. A new database is made by ``schema.py``, without them."""
