"""Episodes of several turns: environments and tools that answer what a policy writes."""
