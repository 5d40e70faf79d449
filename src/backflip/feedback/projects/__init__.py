"""Projects and people: administration, membership, reading of results."""
