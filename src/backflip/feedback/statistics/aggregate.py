"""Many judgements of an item → one label with an error bar: votes here, Dawid-Skene next door.

``aggregate`` counts votes, ``dawid_skene`` weighs them by how each rater errs, ``glad`` knows hard
items from easy ones, ``crowd_bt`` gives every answer a score. All of them take sides in the item's
own order, so that being shown on the left has been undone before anything is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from backflip.feedback.statistics.judgements import Floats, Ints, Judgements
from backflip.functional import statistics


@dataclass(frozen=True)
class Labels:
    """A label for each of I items, and how sure it is."""

    classes: Floats
    """[C] Values that a label may have; of pairs −1 (b), 0 (tie), 1 (a)."""
    posterior: Floats
    """[I, C] P(class); not a number where nobody said anything."""
    label: Ints
    """[I] Place of the likeliest class in ``classes``; −1 where two are equal, or nobody spoke."""
    low: Floats
    """[I] Lower end of the 95 % error bar of P(label) (of P(best class) where two are equal)."""
    high: Floats
    """[I]"""
    raters: Ints
    """[I] Judgements that went in."""

    @property
    def value(self) -> Floats:
        """[I] The label itself; not a number where there is none."""
        return np.where(self.label >= 0, self.classes[np.maximum(self.label, 0)], np.nan)

    @property
    def certainty(self) -> Floats:
        """[I] P(label)."""
        return self.posterior.max(1)

    @property
    def p_first(self) -> Floats:
        """[I] P(a is better), a tie counting half: the soft label of a pair."""
        signs = np.sign(self.classes)
        return self.posterior @ ((signs + 1) / 2)


def right(labels: Labels, gold: Floats) -> Floats:
    """One number for each item with a known gold: 1 right, 0 wrong, ½ a tie or undecided.

    Of pairs the side counts. Items that nobody judged are left out.
    """
    known = ~np.isnan(gold) & (labels.raters > 0)
    paired = set(labels.classes) == {-1.0, 0.0, 1.0}
    said = np.where(labels.label >= 0, labels.value, 0.0 if paired else np.nan)[known]
    truth = np.sign(gold[known]) if paired else gold[known]
    hit = (said == truth).astype(np.float64)
    unsure = np.isnan(said) if not paired else (said == 0) & (truth != 0)
    return np.where(unsure, 0.5, hit)


def votes(judgements: Judgements, weights: Floats | None = None) -> tuple[Floats, Floats, Ints]:
    """Classes [C]; weight of the votes for each [I, C]; judgements of each item [I].

    ``weights`` [R] has one number for each rater, 1 if none are given.
    """
    said = judgements.said()
    classes, code = said.classes()
    size = max(len(classes), 1)
    weight = None if weights is None else np.asarray(weights, np.float64)[said.rater]
    cell = np.bincount(said.item * size + code, weights=weight, minlength=said.items * size)
    raters = np.bincount(said.item, minlength=said.items)
    return classes, cell.reshape(-1, size).astype(np.float64), raters


def majority(judgements: Judgements, *, level: float = 0.95) -> Labels:
    """One rater, one vote. The error bar is Wilson's, of the share that voted so."""
    classes, counts, raters = votes(judgements)
    return _voted(classes, counts, raters.astype(np.float64), raters, level)


def weighted(judgements: Judgements, weights: Floats, *, level: float = 0.95) -> Labels:
    """Votes weighed by rater, ``weights`` [R] ≥ 0.

    For raters right with chance p the best weight is log(p/(1 − p)) (Nitzan and Paroush, 1982):
    see ``log_odds``. The error bar counts (Σw)²/Σw² votes (Kish, 1965).
    """
    if np.any(np.asarray(weights) < 0):
        raise ValueError("Weights of raters must not be negative; give a harmful rater 0.")
    classes, counts, raters = votes(judgements, weights)
    _, squares, _ = votes(judgements, np.asarray(weights, np.float64) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.where(squares.sum(1) > 0, counts.sum(1) ** 2 / squares.sum(1), 0.0)
    return _voted(classes, counts, effective, raters, level)


def log_odds(reliability: Floats, *, most: float = 0.99) -> Floats:
    """Weights for ``weighted``: log(p/(1 − p)), 0 for raters no better than a coin."""
    p = np.clip(np.nan_to_num(reliability, nan=0.5), 0.5, most)
    return np.log(p / (1 - p))


def _voted(
    classes: Floats, counts: Floats, effective: Floats, raters: Ints, level: float
) -> Labels:
    total = counts.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total > 0, counts / total, np.nan)
    best = share.max(1, initial=0.0)
    low, high = wilson_bounds(best, np.maximum(effective, 1e-12), level=level)
    return Labels(classes, share, likeliest(share), low, high, raters)


def likeliest(posterior: Floats) -> Ints:
    """[I] The greatest of each row; −1 where two are equal or nothing is known."""
    filled = np.nan_to_num(posterior, nan=0.0)
    best = filled.max(1, keepdims=True, initial=0.0)
    alone = (filled >= best - 1e-12).sum(1) == 1
    return np.where(alone, filled.argmax(1), -1).astype(np.int64)


def wilson_bounds(p: Floats, n: Floats | Ints, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's interval of many proportions at once; ``n`` need not be whole."""
    return statistics.wilson_bounds(p, n, NormalDist().inv_cdf((1 + level) / 2))
