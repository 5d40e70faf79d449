"""Labellers of answers, by one protocol: people."""
