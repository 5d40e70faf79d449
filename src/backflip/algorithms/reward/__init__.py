"""Objectives of reward models."""
