"""Fatigue of raters: agreement with the others and pace, over a session's minutes.

``raters.RaterReport.tiring`` is the slope of the same curve, with its interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backflip.feedback.statistics.judgements import Floats, Judgements
from backflip.feedback.statistics.raters import sessions, with_others
from backflip.functional.statistics import Interval, wilson

FEWEST = 15
"""Judgements of one stretch: fewer say nothing."""
MOST = 6
"""Stretches of one rater."""


@dataclass(frozen=True)
class Stretch:
    """Judgements of a rater that came about as long after the beginning of a session."""

    minutes: float
    """Mean time since the session began."""
    judgements: int
    agreement: Interval
    """Chance that another rater of the same item said the same; NaN where nobody else did."""
    seconds: float
    """Median per item; NaN where nobody measured it."""


def over_session(judgements: Judgements, *, level: float = 0.95) -> list[list[Stretch]]:
    """For each rater [R] stretches of equally many judgements, the earliest of a session first.

    All sessions of a rater are laid on one another. Empty where there are too few judgements for
    two stretches. Intervals are Wilson's.
    """
    marked = judgements.sides()
    hours, _ = sessions(marked.rater, marked.at)
    plain = ~marked.repeat & ~np.isnan(marked.value)
    said, hours = marked.where(plain), hours[plain]
    shared, same = with_others(said)
    found = list[list[Stretch]]()
    for rater in range(said.raters):
        mine = np.flatnonzero(said.rater == rater)
        mine = mine[np.argsort(hours[mine], kind="stable")]
        count = min(MOST, len(mine) // FEWEST)
        parts = np.array_split(mine, count) if count > 1 else []
        found.append(
            [
                Stretch(
                    minutes=60 * float(hours[rows].mean()),
                    judgements=len(rows),
                    agreement=wilson(
                        float(same[rows] @ shared[rows]), int(shared[rows].sum()), level=level
                    ),
                    seconds=_median(said.seconds[rows]),
                )
                for rows in parts
            ]
        )
    return found


def _median(seconds: Floats) -> float:
    known = seconds[~np.isnan(seconds)]
    return float(np.median(known)) if len(known) else np.nan
