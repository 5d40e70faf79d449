"""Several processes as one: the world of ranks, and readings that they share out."""
