"""Agreement of raters: percent, Cohen, Fleiss, Krippendorff, Gwet, with bootstraps over items.

Items whose raters gave the same classes the same number of times are the same item to each of
these, so they are folded into one row with a weight. A million compared pairs with three raters
are ten rows, and a bootstrap over items is a multinomial draw of the ten weights, where the
packages would go through all items once for each resample. All coefficients but Cohen's are
functions of the same few sums over rows; the tests hold them against krippendorff, statsmodels,
scikit-learn and irrcac.

Agreement by chance is a convention, and coefficients differ in nothing else. With most labels
in one class (nearly all replies are fine) alpha and kappa fall towards 0 while raters agree nearly
always; Gwet's AC does not. Show both, and the percentage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backflip.feedback.statistics.judgements import Floats, Ints, Judgements, pairs
from backflip.functional.statistics import Interval, wilson

Metric = Literal["nominal", "ordinal", "interval"]
"""How far apart two classes are: equal or not; by how many answers lie between; by their values."""

BLOCK = 1 << 23
"""Numbers held at once while resampling: 64 MB."""


@dataclass(frozen=True)
class Table:
    """Counts of values by item, items with the same counts folded into one row."""

    counts: Floats
    """[U, C] How many raters gave the row's items each class."""
    weight: Ints
    """[U] Items folded into the row."""
    classes: Floats
    """[C] Values, rising."""


@dataclass(frozen=True)
class Sums:
    """Sums over items, for each of B ways to weigh them; every coefficient is a function of
    these.
    """

    coincidences: Floats
    """[B, C, C] Krippendorff's o: pairs of judgements, each item's divided by m − 1."""
    pairs: Floats
    """[B, C, C] The same divided by m(m − 1): each item counts the same."""
    shares: Floats
    """[B, C] Share of each class, summed over items."""
    judged: Floats
    """[B] Items with a rater or more."""
    compared: Floats
    """[B] Items with two raters or more."""


@dataclass(frozen=True)
class Agreement:
    """A project's agreement on one scale, each with its interval over items."""

    percent: Interval
    """Chance that two raters of an item said the same, 0 to 1."""
    alpha: Interval
    """Krippendorff's, 1 perfect, 0 chance."""
    fleiss: Interval
    gwet: Interval
    """AC1, or AC2 where classes have an order."""
    metric: Metric
    items: int
    """With two raters or more."""
    judgements: int


def table(judgements: Judgements) -> Table:
    """Count, item by item, the values of ``judgements.said()``, each a class of its own.

    Of pairs without strengths a and b are classes even where nobody chose one of them; a tie is a
    class once anybody said so.
    """
    said = judgements.said()
    known = [-1.0, 1.0] if said.paired and not np.any(said.value % 1) else []
    classes = np.unique(np.concatenate([said.value, known]))
    code = np.searchsorted(classes, said.value)
    size = max(len(classes), 1)
    counts = np.bincount(said.item * size + code, minlength=said.items * size).reshape(-1, size)
    counts = counts[counts.sum(1) > 0]
    base = int(counts.max(initial=0)) + 1
    if base**size < 2**62:  # one number for each row sorts faster than rows
        key = counts @ base ** np.arange(size)
        _, first, weight = np.unique(key, return_index=True, return_counts=True)
        return Table(counts[first].astype(np.float64), weight, classes)
    rows, weight = np.unique(counts, axis=0, return_counts=True)
    return Table(rows.astype(np.float64), weight, classes)


def sums(table: Table, weights: Floats) -> Sums:
    """Weigh rows, ``weights`` [B, U], and add up."""
    several = table.counts.sum(1) >= 2
    size = table.counts.shape[1]
    coincidences = np.zeros((len(weights), size * size))
    both = np.zeros_like(coincidences)
    step = max(1, BLOCK // max(1, size * size))
    for start in range(0, len(table.counts), step):
        rows = slice(start, start + step)
        n, w = table.counts[rows][several[rows]], weights[:, rows][:, several[rows]]
        pair = (n[:, :, None] * n[:, None, :] - n[:, :, None] * np.eye(size)).reshape(
            len(n), size * size
        )
        m = n.sum(1, keepdims=True)
        coincidences += w @ (pair / (m - 1))
        both += w @ (pair / (m * (m - 1)))
    square = (len(weights), size, size)
    return Sums(
        coincidences=coincidences.reshape(square),
        pairs=both.reshape(square),
        shares=weights @ (table.counts / table.counts.sum(1, keepdims=True)),
        judged=weights.sum(1).astype(np.float64),
        compared=weights[:, several].sum(1).astype(np.float64),
    )


def percent(sums: Sums) -> Floats:
    """[B] Chance that two raters of an item gave the same class."""
    with np.errstate(invalid="ignore"):
        return np.trace(sums.pairs, axis1=1, axis2=2) / sums.compared


def krippendorff(sums: Sums, classes: Floats, *, metric: Metric) -> Floats:
    """[B] α = 1 − D_o/D_e (Krippendorff, 2011); not a number where all said the same."""
    o = sums.coincidences
    n = o.sum(2)
    total = n.sum(1)
    distance = _distance(n, classes, metric)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (o * distance).sum((1, 2)) / total
        expected = (n[:, :, None] * n[:, None, :] * distance).sum((1, 2)) / (total * (total - 1))
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def fleiss(sums: Sums, classes: Floats, *, metric: Metric = "nominal") -> Floats:
    """[B] Fleiss's κ (1971), for any number of raters an item and weighted (Gwet, 2014, ch. 3)."""
    close, share = _closeness(classes, metric), _common(sums)
    return _beyond(sums, close, np.einsum("bk,kl,bl->b", share, close, share))


def gwet(sums: Sums, classes: Floats, *, metric: Metric = "nominal") -> Floats:
    """[B] Gwet's AC1, and AC2 where classes have an order (Gwet, 2008; 2014, ch. 4).

    1 where all gave one class, however many there are that nobody gave.
    """
    close, share, size = _closeness(classes, metric), _common(sums), len(classes)
    chance = close.sum() / max(size * (size - 1), 1) * (share * (1 - share)).sum(1)
    return _beyond(sums, close, chance)


def agreement(
    judgements: Judgements,
    *,
    metric: Metric = "nominal",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Percent with Wilson's interval over items; α, κ and AC with percentile bootstraps over items,
    which are never narrower than Wilson's makes them.

    Pass ``judgements.sides()`` to ask who agrees on the better answer, whatever the strength.
    """
    counted = table(judgements)
    drawn = _resampled(counted, resamples, seed)
    classes = counted.classes

    alike = _percent_interval(counted, level)

    def interval(coefficient: Callable[[Sums], Floats]) -> Interval:
        return _interval(
            np.concatenate([coefficient(s) for s in drawn]), level, alike, drawn[0].shares[0]
        )

    return Agreement(
        percent=alike,
        alpha=interval(lambda s: krippendorff(s, classes, metric=metric)),
        fleiss=interval(lambda s: fleiss(s, classes, metric=metric)),
        gwet=interval(lambda s: gwet(s, classes, metric=metric)),
        metric=metric,
        items=int(counted.weight[counted.counts.sum(1) >= 2].sum()),
        judgements=int((counted.weight @ counted.counts).sum()),
    )


def alpha(
    judgements: Judgements,
    *,
    metric: Metric = "nominal",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Krippendorff's α alone."""
    counted = table(judgements)
    drawn = _resampled(counted, resamples, seed)
    values = [krippendorff(s, counted.classes, metric=metric) for s in drawn]
    alike = _percent_interval(counted, level)
    return _interval(np.concatenate(values), level, alike, drawn[0].shares[0])


def _resampled(counted: Table, resamples: int, seed: int) -> list[Sums]:
    """The sample as it is, then resamples of its items, in blocks that fit into memory."""
    rng, total = np.random.default_rng(seed), int(counted.weight.sum())
    found = [sums(counted, counted.weight[None, :].astype(np.float64))]
    step = max(1, BLOCK // max(1, len(counted.weight)))
    for start in range(0, resamples if total else 0, step):
        size = min(step, resamples - start)
        drawn = rng.multinomial(total, counted.weight / total, size=size)
        found.append(sums(counted, drawn.astype(np.float64)))
    return found


def _percent_interval(counted: Table, level: float) -> Interval:
    """``percent`` with Wilson's interval: each item counts the same, however many judged it."""
    n = counted.counts.sum(1)
    several = n >= 2
    counts, n = counted.counts[several], n[several]
    same = (counts * (counts - 1)).sum(1) / (n * (n - 1))
    items = int(counted.weight[several].sum())
    return wilson(float(same @ counted.weight[several]), items, level=level)


def _interval(values: Floats, level: float, alike: Interval, shares: Floats) -> Interval:
    """The first value is the sample's own; the others are resamples. Unknown: −∞ to ∞.

    Resamples of a handful of items that agree all agree, so that their quantiles claim certainty.
    Each end reaches at least where the coefficient would stand if the percentage of agreement,
    ``alike``, stood at that end of Wilson's interval, with the classes as common as they are.
    """
    known = values[1:][~np.isnan(values[1:])]
    estimate = float(values[0])
    if np.isnan(estimate) or len(known) == 0:
        return Interval(estimate, -np.inf, np.inf, level, alike.units)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    apart = 1 - alike.estimate
    chance = float(shares @ shares) / float(shares.sum()) ** 2
    scale = (1 - estimate) / apart if apart > 0 else 1 / (1 - chance) if chance < 1 else 1.0
    ends = [estimate + (end - alike.estimate) * scale for end in (alike.low, alike.high)]
    low, high = min(float(low), ends[0]), max(float(high), min(ends[1], 1.0))
    return Interval(estimate, max(low, -1.0), high, level, alike.units)


def _distance(n: Floats, classes: Floats, metric: Metric) -> Floats:
    """δ² of every two classes, [B, C, C] or [C, C]; ordinal distances depend on the counts n."""
    if metric == "nominal":
        return 1 - np.eye(len(classes))
    if metric == "interval":
        return (classes[:, None] - classes[None, :]) ** 2
    middle = n.cumsum(1) - n / 2  # Σ_{g=c..k} n_g − (n_c + n_k)/2 is a difference of these
    return (middle[:, :, None] - middle[:, None, :]) ** 2


def _closeness(classes: Floats, metric: Metric) -> Floats:
    """Weights of partial agreement, 1 on the diagonal: Gwet's (2014, ch. 3) tables."""
    size = len(classes)
    if metric == "nominal" or size < 2:
        return np.eye(size)
    if metric == "interval":
        return 1 - (classes[:, None] - classes[None, :]) ** 2 / np.ptp(classes) ** 2
    span = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) + 1
    return 1 - span * (span - 1) / (size * (size - 1))


def _common(sums: Sums) -> Floats:
    """[B, C] How common each class is, each item counting the same."""
    return sums.shares / np.maximum(sums.judged, 1)[:, None]


def _beyond(sums: Sums, close: Floats, chance: Floats) -> Floats:
    """(observed − chance)/(1 − chance), observed agreement weighed by closeness."""
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.einsum("bkl,kl->b", sums.pairs, close) / sums.compared
        return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)


def _kappa(confusion: Floats, weights: str | None) -> Floats:
    """[…] κ of confusion matrices [P, C, C]."""
    size = confusion.shape[-1]
    gap = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    off = gap > 0 if weights is None else gap if weights == "linear" else gap**2
    total = confusion.sum((-1, -2))
    rows, columns = confusion.sum(-1), confusion.sum(-2)
    expected = np.einsum("pk,kl,pl->p", rows, off, columns) / np.maximum(total, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - (confusion * off).sum((-1, -2)) / expected, np.nan)


@dataclass(frozen=True)
class RaterPairs:
    """Agreement of every two raters."""

    kappa: Floats
    """[R, R] Cohen's; not a number where two share no item, or where chance explains all."""
    same: Floats
    """[R, R] Share of their items on which they said the same."""
    shared: Ints
    """[R, R] Items that both judged."""

    @property
    def light(self) -> float:
        """Mean κ over pairs of raters (Light, 1971)."""
        known = self.kappa[np.triu_indices(len(self.kappa), 1)]
        return float(np.nanmean(known)) if np.any(~np.isnan(known)) else np.nan


def rater_pairs(
    judgements: Judgements, *, weights: Literal["linear", "quadratic"] | None = None
) -> RaterPairs:
    """Cohen's κ and plain agreement of every two raters, over the items that both judged."""
    said = judgements.said()
    classes, code = said.classes()
    met = pairs(said.item, said.rater)
    swap = said.rater[met.left] > said.rater[met.right]
    low, high = np.where(swap, met.right, met.left), np.where(swap, met.left, met.right)
    size, people = max(len(classes), 1), said.raters
    who, place = np.unique(said.rater[low] * people + said.rater[high], return_inverse=True)
    cell = (place * size + code[low]) * size + code[high]
    confusion = (
        np.bincount(cell, minlength=len(who) * size**2).reshape(-1, size, size).astype(float)
    )
    kappa, same = np.full((people, people), np.nan), np.full((people, people), np.nan)
    shared = np.zeros((people, people), np.int64)
    a, b, total = who // people, who % people, confusion.sum((1, 2))
    for place_a, place_b in ((a, b), (b, a)):
        kappa[place_a, place_b] = _kappa(confusion, weights)
        same[place_a, place_b] = np.trace(confusion, axis1=1, axis2=2) / np.maximum(total, 1)
        shared[place_a, place_b] = total
    return RaterPairs(kappa, same, shared)
