"""Soft labels of steps: how likely each is good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backflip.algorithms.process.base import ProcessObjective

__all__ = ["SoftLabel"]


@dataclass(frozen=True, kw_only=True)
class SoftLabel(ProcessObjective):
    """Cross-entropy of P(good) at the end of each step, to hard or soft labels (Math-Shepherd: Wang
    et al., 2024).
    """

    title: ClassVar[str] = "Soft labels of steps"
    heads: ClassVar[int] = 1
