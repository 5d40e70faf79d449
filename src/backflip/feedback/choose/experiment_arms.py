"""Gain of the active arm over the random arm: is choosing questions worth it here?

Two small models (``beliefs``) learn from equally many labels, one of either arm, in the order in
which these were asked, and are tried on pairs that chance chose and neither has learnt from: folds
of the random arm. The active arm's own pairs would be no fair exam: they are the hard ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backflip.feedback.choose.beliefs import fit_linear, modes
from backflip.feedback.statistics.judgements import Flags, Floats, Ints
from backflip.functional.statistics import Interval
from backflip.text import counted

FOLDS = 5
FEWEST = 40
"""Labels of either arm below which nothing is said."""
LEVEL, REACH = 0.95, 1.959964


@dataclass(frozen=True)
class Gain:
    """Accuracy by number of labels, of either arm."""

    labels: Ints
    """[S] Labels that each model has learnt from; empty where there are too few."""
    active: list[Interval]
    """[S] Accuracy on what people said of the held-out pairs of the random arm."""
    random: list[Interval]
    difference: list[Interval]
    """[S] Active minus random, on the same pairs: its sign is beyond doubt where it excludes 0."""
    held_out: int
    """Pairs of the exam."""
    why: str = ""
    """Why there is nothing, in words."""

    def as_json(self) -> dict[str, object]:
        """Lists and numbers alone, for a page or a file."""
        spans = {
            name: [[one.estimate, one.low, one.high] for one in getattr(self, name)]
            for name in ("active", "random", "difference")
        }
        return {
            "labels": self.labels.tolist(),
            "held_out": self.held_out,
            "why": self.why,
            **spans,
        }


@dataclass(frozen=True)
class Told:
    """I judged items in the order in which they were asked."""

    x: Floats
    """[I, d] Features, odd in which answer is called a."""
    share: Floats
    """[I] Of the votes, those for a; a tie is half."""
    votes: Floats
    """[I]"""
    active: Flags
    """[I] Which arm chose it."""

    def first(self, rows: Ints, labels: np.integer | int) -> Ints:
        """The first of these items with so many votes together."""
        return rows[: int(np.searchsorted(self.votes[rows].cumsum(), labels - 1e-9)) + 1]


def gain(told: Told, *, sizes: int = 6, resamples: int = 60, seed: int = 0) -> Gain:
    """Learning curves of both arms, and their difference, with 95 % intervals.

    The intervals hold for the pairs of the exam and for the training sets: all items are weighed by
    chance again and again (Bayesian bootstrap: Rubin, 1981), models are fitted anew, and ± 1.96
    standard deviations are laid around the plain estimate.
    """
    arms = [np.flatnonzero(told.active), np.flatnonzero(~told.active)]
    fold = np.arange(len(arms[1])) % FOLDS
    learnt = [arms[1][fold != k] for k in range(FOLDS)]
    most = min(told.votes[rows].sum() for rows in (arms[0], *learnt))
    if most < FEWEST:
        active, random = (round(float(told.votes[rows].sum())) for rows in arms)
        return nothing(
            f"The active arm has {counted(active, 'label')} and the random arm {random}; the "
            "comparison "
            f"begins at {FEWEST} of the one and {FEWEST * FOLDS // (FOLDS - 1)} of the other."
        )
    labels = np.unique(np.geomspace(max(FEWEST / 2, most / 32), most, sizes).round()).astype(
        np.int64
    )
    scale = fit_linear(told.x, told.share, told.votes).scale
    rng = np.random.default_rng(seed)
    weight = rng.exponential(size=(1 + resamples, len(told.x)))
    weight[0] = 1.0
    plain, *others = _curves(told, arms, learnt, labels, scale, weight)
    drawn = np.stack(others)
    return Gain(
        labels,
        _intervals(plain[0], drawn[:, 0]),
        _intervals(plain[1], drawn[:, 1]),
        _intervals(plain[0] - plain[1], drawn[:, 0] - drawn[:, 1]),
        len(arms[1]),
    )


def nothing(why: str) -> Gain:
    """No curves, and the reason for it."""
    return Gain(np.zeros(0, np.int64), [], [], [], 0, why)


def _intervals(plain: Floats, drawn: Floats) -> list[Interval]:
    """Estimates [S] with ± 1.96 standard deviations of what was drawn [resamples, S]."""
    width = REACH * drawn.std(0, ddof=1)
    return [
        Interval(float(m), float(m - w), float(m + w), LEVEL)
        for m, w in zip(plain, width, strict=True)
    ]


def _curves(
    told: Told, arms: list[Ints], learnt: list[Ints], labels: Ints, scale: float, weight: Floats
) -> Floats:
    """[R, 2, S] Accuracy of models of either arm, items weighed by ``weight`` [R, I]."""
    found = np.zeros((len(weight), 2, len(labels)))
    for number, rows in enumerate([arms[0], *learnt]):
        exam = arms[1] if number == 0 else np.setdiff1d(arms[1], rows, assume_unique=True)
        w = np.zeros((len(weight), told.x.shape[1]))
        for place, count in enumerate(labels):
            seen = told.first(rows, count)
            votes = told.votes[seen] * weight[:, seen]
            w = modes(told.x[seen], told.share[seen], votes, scale, w)
            right = weight[:, exam] * _right(told, exam, w)
            found[:, int(number > 0), place] += right.sum(1)
    return found / weight[:, arms[1]].sum(1)[:, None, None]


def _right(told: Told, rows: Ints, w: Floats) -> Floats:
    """[R, rows] Share of the votes of each item that the model's choice gets; half without one."""
    side = np.sign(w @ told.x[rows].T)
    return 0.5 + side * (told.share[rows] - 0.5)
