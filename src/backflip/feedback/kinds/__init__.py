"""Kinds of tasks, a file each: payload, answer, checks, scores, words for people, example form."""
