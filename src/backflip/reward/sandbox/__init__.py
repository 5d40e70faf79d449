"""Programs that nobody trusts, run in layers of isolation. Standard library alone."""
