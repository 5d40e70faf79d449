"""Suites by the names of their files: ``suites/xstest.py`` holds ``suite=xstest``."""

from __future__ import annotations

import backflip.evaluation.suites as room
from backflip.algorithms.discover import classes_in
from backflip.evaluation.suites.base import Suite

__all__ = ["SUITES"]

SUITES: dict[str, type[Suite]] = classes_in(room, Suite)
"""Every suite by the name that a command gives."""
