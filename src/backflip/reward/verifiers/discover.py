"""Verifiers by the names of their files: ``verifiers/exact.py`` holds what a recipe calls exact."""

from __future__ import annotations

import backflip.reward.verifiers as room
from backflip.algorithms.discover import classes_in
from backflip.reward.verifiers.base import Verifier

__all__ = ["VERIFIERS"]

VERIFIERS: dict[str, type[Verifier]] = classes_in(room, Verifier)
"""Every verifier by the name that a recipe gives."""
