"""Was it worth it. Receives a model and data; hands out measurements with intervals."""
