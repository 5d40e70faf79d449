"""Carry rows in and out. Receives foreign files and projects; hands out items, and rows to train on."""
