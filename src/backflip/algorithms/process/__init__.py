"""Objectives of process reward models."""
