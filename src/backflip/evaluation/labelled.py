"""Texts with a label, whatever the columns are called, and how well scores agree with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.stats import rankdata  # pyright: ignore[reportMissingTypeStubs]

from backflip.functional.statistics import Interval, pearson

__all__ = ["area", "correlation", "label_in", "text_in", "yes"]

TEXTS = ("text", "comment", "answer", "prompt")
LABELS = ("toxic", "is_toxic", "toxicity", "label", "mean", "score", "sentiment", "ratings")
LEVEL = 0.95


def text_in(row: Mapping[str, Any], column: str = "") -> str | None:
    """The text of a row; None where there is none."""
    names = (column,) if column else TEXTS
    found = next((row[name] for name in names if row.get(name) is not None), None)
    return str(found) if found is not None and str(found).strip() else None


def label_in(row: Mapping[str, Any], column: str = "") -> Any:
    """What people said of a text: the mean of several ratings, else as it stands; None: nothing."""
    names = (column,) if column else LABELS
    found = next((row[name] for name in names if row.get(name) is not None), None)
    if isinstance(found, Sequence) and not isinstance(found, str):
        return sum(map(float, found)) / len(found) if found else None
    return found


def area(scores: Sequence[float], positive: Sequence[bool]) -> Interval:
    """Area under the curve, P(a positive scores higher than a negative), ties half.

    Its interval is DeLong's (1988), on the logit so that it stays within 0 and 1.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    ups, downs = int(y.sum()), int((~y).sum())
    if not ups or not downs:
        return Interval(math.nan, 0.0, 1.0, LEVEL, len(x))
    ranks = np.asarray(rankdata(x), np.float64)
    above = (ranks[y] - rankdata(x[y])) / downs
    below = 1 - (ranks[~y] - rankdata(x[~y])) / ups
    value = float(above.mean())
    if min(ups, downs) < 2 or value in (0.0, 1.0):
        return Interval(value, 0.0, 1.0, LEVEL, len(x))
    error = math.sqrt(float(above.var(ddof=1)) / ups + float(below.var(ddof=1)) / downs)
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * error / (value * (1 - value))
    ends = [_expit(math.log(value / (1 - value)) + side * reach) for side in (-1, 1)]
    return Interval(value, ends[0], ends[1], LEVEL, len(x))


def correlation(x: Sequence[float], y: Sequence[float]) -> Interval:
    """Pearson's r with Fisher's interval (1921)."""
    r = pearson(list(x), list(y))
    if not math.isfinite(r) or len(x) < 4 or abs(r) >= 1:
        return Interval(r, -1.0, 1.0, LEVEL, len(x))
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) / math.sqrt(len(x) - 3)
    return Interval(
        r, math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach), LEVEL, len(x)
    )


def yes(value: Any) -> bool | None:
    """A label of two kinds as True or False; None for another."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | float):
        return None if math.isnan(value) else value >= 0.5
    word = str(value).strip().casefold()
    if word in ("0", "no", "false") or word.startswith(("not ", "non", "neg", "un")):
        return False
    return True if word else None


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))
