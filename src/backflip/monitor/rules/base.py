"""Rules that ring alarms, and windows of a metric's history to write them with.

A rule is a frozen dataclass with ``check(history) -> Alarm | None``, a pure function. Thresholds
are fields, with the reason for their default beside them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar, Literal

from backflip.monitor.log import Alarm, Entry

LOWER, HIGHER = 0.9, 1.1
"""Factors of a threshold that a number must come back to before an alarm is over."""


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """One thing that can go wrong."""

    name: ClassVar[str]
    """Of the alarm."""
    needs: tuple[str, ...] = ()
    """Metrics without which the rule has nothing to say about a step."""
    eased: ClassVar[Mapping[str, float]] = {}
    """Thresholds, and the factors that make them easier to break."""
    severity: Literal["warn", "stop"] = "warn"

    @abstractmethod
    def complaint(self, history: Sequence[Entry]) -> str | None:
        """A sentence when the end of ``history`` is bad. ``needs`` are there at the end."""

    def applies(self, entry: Entry) -> bool:
        """Whether the step was measured: a step without numbers is neither good nor bad."""
        return all(name in entry.metrics for name in self.needs)

    def check(self, history: Sequence[Entry]) -> Alarm | None:
        """The alarm at the end of ``history`` (oldest first, one stage), or None."""
        if not history or not self.applies(history[-1]):
            return None
        sentence = self.complaint(history)
        if sentence is None:
            return None
        last = history[-1]
        return Alarm(last.step, self.name, self.severity, sentence, last.stage)

    def relaxed(self) -> Rule:
        """The rule with its thresholds eased: it decides when an alarm is over."""
        return replace(self, **{name: getattr(self, name) * by for name, by in self.eased.items()})


# ---- windows of a metric's history


def slope(values: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope per step, and its standard error (n − 2 degrees of freedom)."""
    n = len(values)
    centre, middle = (n - 1) / 2, average(values)
    spread = sum((i - centre) ** 2 for i in range(n))
    gradient = sum((i - centre) * (y - middle) for i, y in enumerate(values)) / spread
    rest = sum((y - middle - gradient * (i - centre)) ** 2 for i, y in enumerate(values))
    return gradient, math.sqrt(rest / (n - 2) / spread)


def newest(history: Sequence[Entry], metric: str, n: int) -> list[float]:
    """The newest n finite values, oldest first; fewer where there are fewer."""
    values = (e.metrics[metric] for e in reversed(history) if metric in e.metrics)
    return list(islice((v for v in values if math.isfinite(v)), n))[::-1]


def start_and_end(history: Sequence[Entry], metric: str, n: int) -> tuple[float, float]:
    """Mean of the first n and of the last n values; NaN (no alarm) until there are 2 n."""
    values = (e.metrics[metric] for e in history if metric in e.metrics)
    first = list(islice((v for v in values if math.isfinite(v)), 2 * n))
    if len(first) < 2 * n:
        return math.nan, math.nan
    return average(first[:n]), average(newest(history, metric, n))


def paired(history: Sequence[Entry], a: str, b: str, n: int) -> tuple[list[float], list[float]]:
    """The newest n values of two metrics, from steps that measured both."""
    both = (e.metrics for e in reversed(history) if a in e.metrics and b in e.metrics)
    rows = [(m[a], m[b]) for m in islice(both, n) if math.isfinite(m[a]) and math.isfinite(m[b])]
    return [row[0] for row in rows[::-1]], [row[1] for row in rows[::-1]]


def average(values: Sequence[float]) -> float:
    """The mean; one value at least."""
    return sum(values) / len(values)


def upper(values: Sequence[float], errors: float) -> float:
    """The mean, ``errors`` standard errors up; two values at least."""
    centre, n = average(values), len(values)
    spread = sum((v - centre) ** 2 for v in values) / (n - 1)
    return centre + errors * math.sqrt(spread / n)
