"""Windows of a metric's history, and whether it rises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

from backflip.monitor.log import Entry


def slope(values: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope per step, and its standard error (n − 2 degrees of freedom)."""
    n = len(values)
    centre, middle = (n - 1) / 2, mean(values)
    spread = sum((i - centre) ** 2 for i in range(n))
    gradient = sum((i - centre) * (y - middle) for i, y in enumerate(values)) / spread
    rest = sum((y - middle - gradient * (i - centre)) ** 2 for i, y in enumerate(values))
    return gradient, math.sqrt(rest / (n - 2) / spread)


def last(history: Sequence[Entry], metric: str, n: int) -> list[float]:
    """The newest n finite values, oldest first; fewer where there are fewer."""
    found = (e.metrics[metric] for e in reversed(history) if metric in e.metrics)
    return list(islice((v for v in found if math.isfinite(v)), n))[::-1]


def start_and_end(history: Sequence[Entry], metric: str, n: int) -> tuple[float, float]:
    """Mean of the first n and of the last n values; NaN (no alarm) until there are 2 n."""
    found = (e.metrics[metric] for e in history if metric in e.metrics)
    first = list(islice((v for v in found if math.isfinite(v)), 2 * n))
    if len(first) < 2 * n:
        return math.nan, math.nan
    return mean(first[:n]), mean(last(history, metric, n))


def pairs(history: Sequence[Entry], a: str, b: str, n: int) -> tuple[list[float], list[float]]:
    """The newest n values of two metrics, from steps that measured both."""
    both = (e.metrics for e in reversed(history) if a in e.metrics and b in e.metrics)
    rows = [(m[a], m[b]) for m in islice(both, n) if math.isfinite(m[a]) and math.isfinite(m[b])]
    return [row[0] for row in rows[::-1]], [row[1] for row in rows[::-1]]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def upper(values: Sequence[float], errors: float) -> float:
    """The mean, ``errors`` standard errors up; two values at least."""
    centre, n = mean(values), len(values)
    spread = sum((v - centre) ** 2 for v in values) / (n - 1)
    return centre + errors * math.sqrt(spread / n)
