"""Credit and loss. One frozen dataclass and one file for each algorithm."""
