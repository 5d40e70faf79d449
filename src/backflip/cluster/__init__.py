"""Several machines: files that start a recipe on them, and a forecast of what it takes there."""
