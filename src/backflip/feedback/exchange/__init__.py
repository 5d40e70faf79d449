"""Carry rows in and out. Receives files and projects; hands out items, and rows to train on."""
