"""Three classes of steps: bad, neutral, good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backflip.algorithms.process.base import ProcessObjective

__all__ = ["ThreeClass"]


@dataclass(frozen=True, kw_only=True)
class ThreeClass(ProcessObjective):
    """Cross-entropy of bad, neutral and good at the end of each step (Lightman et al., 2023)."""

    title: ClassVar[str] = "Three classes of steps"
    heads: ClassVar[int] = 3
