"""Numbers that only the whole batch has, from sums that could be added up piece by piece."""

from __future__ import annotations

import math
from collections.abc import Mapping

MOMENTS = ("reward", "length", "reward_2", "length_2", "reward_length")
"""Means of r, l, r², l² and r·l over answers, logged as ``moment_…``."""
ROUNDING = 1e-12
"""A variance below this share of the mean square is nothing but rounding."""


def derived(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics, with what is made of sums in the place of the sums.

    ``score_mean_square`` becomes ``score_std``; the five moments become
    ``length_reward_correlation``, Pearson's, which is left out where all rewards or all lengths
    are equal. All of it for ``val_…`` too.
    """
    numbers = dict(metrics)
    for prefix in ("", "val_"):
        _spread(numbers, prefix)
        _correlation(numbers, prefix)
    return numbers


def _spread(numbers: dict[str, float], prefix: str) -> None:
    square = numbers.pop(f"{prefix}score_mean_square", None)
    if square is not None:
        variance = square - numbers[f"{prefix}score_mean"] ** 2
        numbers[f"{prefix}score_std"] = math.sqrt(max(variance, 0.0))


def _correlation(numbers: dict[str, float], prefix: str) -> None:
    sums = [numbers.pop(f"{prefix}moment_{name}", None) for name in MOMENTS]
    known = [value for value in sums if value is not None and math.isfinite(value)]
    if len(known) < len(MOMENTS):
        return
    reward, length, reward_2, length_2, product = known
    variances = (reward_2 - reward**2, length_2 - length**2)
    if variances[0] <= ROUNDING * reward_2 or variances[1] <= ROUNDING * length_2:
        return
    r = (product - reward * length) / math.sqrt(variances[0] * variances[1])
    numbers[f"{prefix}length_reward_correlation"] = min(max(r, -1.0), 1.0)
