"""Labels from people: items to judge, the next one for each rater, an append-only log."""
