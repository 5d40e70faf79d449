"""Disagreement of raters: the most disputed items, and preferences that run in a circle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backflip.feedback.statistics.judgements import Floats, Ints, Judgements
from backflip.functional.statistics import Interval, wilson

PRIOR_RATERS = 3.0
"""Raters, as divided as the project's mean, that an item is thought to have had before its own: a
1–1 split says less than a 5–5 split."""
CHANCE = 0.25
"""Of the 8 ways in which strict preferences can join three answers 2 are circles."""


@dataclass(frozen=True)
class Disputed:
    """An item on which raters disagree."""

    item: int
    raters: int
    apart: float
    """Chance that two of its votes, drawn with replacement, differ; drawn towards the project's
    mean."""
    votes: dict[float, int]
    """How many gave each class."""


def most_disagreed(judgements: Judgements, *, count: int = 50) -> list[Disputed]:
    """The items most disagreed on, worst first; more raters first where equal.

    Of pairs the better answer counts, not the strength.
    """
    said = judgements.sides().said()
    classes, code = said.classes()
    size = max(len(classes), 1)
    votes = np.bincount(said.item * size + code, minlength=said.items * size).reshape(-1, size)
    several = np.flatnonzero(votes.sum(1) >= 2)
    n = votes[several].astype(np.float64)
    m = n.sum(1)
    apart = 1 - ((n / m[:, None]) ** 2).sum(1)
    mean = float(apart.mean()) if len(apart) else 0.0
    score = (m * apart + PRIOR_RATERS * mean) / (m + PRIOR_RATERS)
    split = np.flatnonzero(apart > 0)
    worst = split[np.lexsort((-m[split], -score[split]))][:count]
    return [
        Disputed(
            item=int(several[i]),
            raters=int(m[i]),
            apart=float(score[i]),
            votes={float(c): int(v) for c, v in zip(classes, n[i], strict=True) if v},
        )
        for i in worst
    ]


@dataclass(frozen=True)
class Circles:
    """Triples of answers of which one rater judged all three pairs and called none a tie."""

    triples: Ints
    """[R] How many, by rater."""
    circular: Ints
    """[R] How many of them run in a circle: x over y, y over z, z over x."""

    def share(self, rater: int | None = None, *, level: float = 0.95) -> Interval:
        """Share that is circular, of one rater or of all. Coin tosses get ¼."""
        if rater is None:
            return wilson(int(self.circular.sum()), int(self.triples.sum()), level=level)
        return wilson(int(self.circular[rater]), int(self.triples[rater]), level=level)


def circles(judgements: Judgements) -> Circles:
    """Count intransitive triples by rater (Kendall and Babington Smith, 1940).

    Items must say which answers they compare (``answers``); a ranking is transitive by itself.
    Where a rater judged the same two answers in several items, the newest counts.
    """
    said = judgements.sides().said()
    said = said.where(np.argsort(said.at, kind="stable"))
    said = said.where(said.value != 0)
    u, v = said.answers[said.item].T
    better = said.value * np.where(u < v, 1, -1)  # 1: the lower-numbered answer is better
    low, high, answers = np.minimum(u, v), np.maximum(u, v), int(said.answers.max(initial=0)) + 1
    key = (said.rater * answers + low) * answers + high
    last = len(key) - 1 - np.unique(key[::-1], return_index=True)[1]
    last = last[low[last] != high[last]]
    return _triangles(said.rater[last], low[last], high[last], better[last], said.raters, answers)


def _triangles(
    rater: Ints, low: Ints, high: Ints, better: Floats, raters: int, answers: int
) -> Circles:
    """Edges are sorted by (rater, low, high): x–y meets y–z, and x–z is looked up."""
    start = rater * answers + low
    key = start * answers + high
    begin = np.searchsorted(start, rater * answers + high, "left")
    end = np.searchsorted(start, rater * answers + high, "right")
    first = np.repeat(np.arange(len(key)), end - begin)
    within = np.arange(len(first)) - np.repeat((end - begin).cumsum() - (end - begin), end - begin)
    second = begin[first] + within
    third_key = start[first] * answers + high[second]
    third = np.minimum(np.searchsorted(key, third_key), max(len(key) - 1, 0))
    closed = key[third] == third_key if len(key) else np.zeros(0, np.bool_)
    first, second, third = first[closed], second[closed], third[closed]
    round_trip = (better[first] == better[second]) & (better[third] == -better[first])
    return Circles(
        triples=np.bincount(rater[first], minlength=raters),
        circular=np.bincount(rater[first][round_trip], minlength=raters),
    )
