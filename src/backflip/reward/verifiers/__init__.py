"""Programs that check answers, a file each, found by its name: ``exact.py`` is what a recipe calls
exact. Their workers import this room, so nothing in it imports torch at its top.
"""
