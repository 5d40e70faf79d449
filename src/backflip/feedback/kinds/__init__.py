"""Kinds of tasks: payloads, answers, display and scores of each."""
