"""Work behind pages and interface: statistics, drafting, training, query selection."""
