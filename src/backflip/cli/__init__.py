"""The command line: one function for each command, and how it prints."""
