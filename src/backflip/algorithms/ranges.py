"""Ranges of hyperparameters: bounds of the mathematics, and published ranges with their source.

Both are written where the field is declared::

    beta: Annotated[float, Within(0, math.inf, "at 0 preferences have no weight", open=True)] = 0.1
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

__all__ = ["Usual", "Within", "declared"]


@dataclass(frozen=True)
class Within:
    """Bounds outside of which the mathematics of a field fails."""

    low: float | int
    high: float | int
    why: str
    open: bool = False
    """Whether the bounds themselves are outside."""

    def __contains__(self, value: float | int) -> bool:
        if self.open:
            return self.low < value < self.high
        return self.low <= value <= self.high

    def __str__(self) -> str:
        """The bounds in words: ``above 0 and below 1``."""
        below = "below" if self.open and self.high <= 1 else "at most"
        upper = f" and {below} {self.high:g}" if self.high < math.inf else ""
        if self.open and self.low >= 0:
            return f"above {self.low:g}{upper}"
        return f"at least {max(self.low, 0) if self.open else self.low:g}{upper}"


@dataclass(frozen=True)
class Usual:
    """The range that a setting has in published work."""

    low: float | int
    high: float | int
    source: str
    """Who, and what lies outside."""
    path: str = ""
    """Dotted name of the setting, where the range stands apart from its field."""
    adapted: bool | None = None
    """Holds with LoRA (True), for all weights (False), or always (None)."""


Range = TypeVar("Range", Within, Usual)


def declared(algorithm: Any, kind: type[Range]) -> Iterator[tuple[str, float | int | None, Range]]:
    """(field, its value, range) of every field of an algorithm that declares such a range."""
    for name, found in _annotations(algorithm.__class__):
        for note in found:
            if isinstance(note, kind):
                yield name, getattr(algorithm, name), note


@cache
def _annotations(kind: type[Any]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple((name, getattr(hint, "__metadata__", ())) for name, hint in hints.items())
