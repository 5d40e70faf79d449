"""Experiments on the loop itself: what happens when a reward that is wrong somewhere is raised."""
