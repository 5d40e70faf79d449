"""The feedback server: pages for raters and leads, an interface for programs, and their jobs."""
