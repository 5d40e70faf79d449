"""The demo: data written for this project, a recipe for it, and what is shown at the end."""
