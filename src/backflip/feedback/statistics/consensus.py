"""Consensus of raters, item by item: a label, its posterior, and how sure it is.

A coin toss is no label. An item is undecided where as many raters say one thing as another, unless
their answers to other items tell whom to believe: a third rater has judged, and the 95 % error bar
of P(label) lies wholly above ``DECIDES``. (Of two raters alone nobody can know which of them errs.)
An item is undecided, too, where several raters leave P(label) below ``TOSS``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from backflip.feedback.statistics.aggregate import (
    Labels,
    log_odds,
    majority,
    right,
    votes,
    weighted,
    wilson_bounds,
)
from backflip.feedback.statistics.agreement import Metric, agreement, rater_pairs
from backflip.feedback.statistics.crowd_bt import CrowdBT, crowd_bt
from backflip.feedback.statistics.dawid_skene import DawidSkene, dawid_skene
from backflip.feedback.statistics.glad import Glad, glad
from backflip.feedback.statistics.judgements import Flags, Floats, Judgements
from backflip.functional.statistics import Interval, finite

RESAMPLES = 200
"""Bootstraps of an agreement, wherever it is told: two digits of an interval."""
TOSS = 0.55
"""P(label) that two raters or more must reach for a label."""
DECIDES = 0.75
"""Where the error bar of P(label) must begin for a label in spite of an even vote."""
LEAST_WEIGHT = 0.05
"""A weight must be above 0; so much is left to a label, or a rater, no better than a coin."""
MOST = 200_000
"""Judgements up to which GLAD and noisy Bradley-Terry are fitted beside Dawid and Skene: they take
minutes where there are more."""


@dataclass(frozen=True)
class Verdict:
    """The label of an item, or of a part of it."""

    value: float
    """−1 (b), 0 (tie), 1 (a); the likeliest value where there are no sides. Not a number: it is
    undecided."""
    posterior: float
    """P(value), or of the likeliest."""
    low: float
    """Of the 95 % error bar of ``posterior``."""
    high: float
    p_first: float
    """P(a is better), or P(up), P(good); a tie counts half."""
    raters: int
    chances: Mapping[float, float]
    """P of every value."""
    known: bool = False
    """Whether it is gold or a senior's word, not the raters'."""

    @classmethod
    def certain(cls, value: float, raters: int) -> Verdict:
        """A label that is known."""
        side = float(np.sign(value))
        return cls(value, 1.0, 1.0, 1.0, (side + 1) / 2, raters, {value: 1.0}, True)

    @property
    def soft(self) -> float:
        """P(the likelier side is better), at least ½."""
        return max(self.p_first, 1 - self.p_first)

    @property
    def weight(self) -> float:
        """Weight of a hard label: 2P − 1, its pull at equal scores if it were a soft one.

        Of a tie its posterior: there is no side to pull to.
        """
        return max(self.posterior, LEAST_WEIGHT) if self.value == 0 else weight_of(self.soft)


def weight_of(p: float) -> float:
    """2p − 1, and a little where that is nothing; 1 where p is unknown."""
    return 1.0 if math.isnan(p) else max(2 * p - 1, LEAST_WEIGHT)


def even(counts: Iterable[int]) -> bool:
    """Whether several share the first place of a vote, so that nothing is decided."""
    ordered = sorted(counts, reverse=True)
    return len(ordered) > 1 and ordered[0] == ordered[1] > 0


def settled(judgements: Judgements, labels: Labels) -> Labels:
    """Labels, none (−1) where they would be a coin toss; posteriors stay as they are."""
    _, counts, raters = votes(judgements)
    best = counts.max(1, initial=0.0)
    told = len(np.unique(judgements.said().rater)) > 2
    split = ((counts == best[:, None]).sum(1) > 1) & (best > 0)
    split &= ~((labels.low > DECIDES) & told)
    sure = labels.certainty
    if judgements.paired:
        sure = np.where(labels.value == 0, 1.0, np.maximum(labels.p_first, 1 - labels.p_first))
    toss = split | ((raters > 1) & (np.nan_to_num(sure, nan=1.0) < TOSS))
    return replace(labels, label=np.where(toss, -1, labels.label))


class Consensus:
    """Verdicts of one project as it stood at an event, by Dawid and Skene."""

    def __init__(self, judgements: Judgements) -> None:
        self.judgements = judgements
        said = judgements.said()
        self.found: DawidSkene | None = dawid_skene(judgements) if len(said) else None
        self.labels = settled(judgements, self.found.labels) if self.found else None
        self._place = {name: number for number, name in enumerate(judgements.item_names)}
        self._rater = {name: number for number, name in enumerate(judgements.rater_names)}

    def of(self, name: str) -> Verdict | None:
        """The verdict on an item ("12") or a part of it ("12:0-2"); none where nobody judged it."""
        place = self._place.get(name)
        if place is None:
            return None
        labels = self.labels
        raters = 0 if labels is None else int(labels.raters[place])
        gold = float(self.judgements.gold[place])
        if not math.isnan(gold):
            return Verdict.certain(float(np.sign(gold)) if self.judgements.paired else gold, raters)
        if labels is None or raters == 0:
            return None
        return Verdict(
            float(labels.value[place]),
            float(labels.certainty[place]),
            float(labels.low[place]),
            float(labels.high[place]),
            float(labels.p_first[place]),
            raters,
            dict(zip(labels.classes.tolist(), labels.posterior[place].tolist(), strict=True)),
        )

    @cached_property
    def _glad(self) -> Glad | None:
        return glad(self.judgements) if 0 < len(self.judgements.said()) <= MOST else None

    @cached_property
    def _crowd_bt(self) -> CrowdBT | None:
        small = 0 < len(self.judgements.said()) <= MOST
        return crowd_bt(self.judgements) if small and self.judgements.paired else None

    @cached_property
    def methods(self) -> dict[str, Labels]:
        """Labels by each way to weigh the same judgements, Dawid and Skene's first; empty where
        nobody judged.
        """
        if self.found is None:
            return {}
        found = {
            "dawid_skene": self.found.labels,
            "majority": majority(self.judgements),
            "weighted": weighted(self.judgements, log_odds(self.found.reliability)),
        }
        if self._glad is not None:
            found["glad"] = self._glad.labels
        if self._crowd_bt is not None:
            found["bradley_terry"] = self._crowd_bt.labels
        return found

    def others(self, name: str) -> dict[str, dict[str, float | None]]:
        """The label of an item, or of a part, by the majority, by votes weighed by reliability, by
        GLAD and, of pairs, by noisy Bradley-Terry, each with its share of the votes or posterior.

        A label is none where it is undecided; empty where nobody judged the item.
        """
        place = self._place.get(name)
        if place is None or self.found is None or not self.found.labels.raters[place]:
            return {}
        return {
            method: {
                "value": finite(labels.value[place]),
                "posterior": finite(labels.certainty[place]),
            }
            for method, labels in self.methods.items()
            if method != "dawid_skene"
        }

    def reliability(self, rater: str) -> float:
        """P(a rater, by pseudonym, is right); not a number where nothing is known."""
        place = self._rater.get(rater)
        if place is None or self.found is None:
            return math.nan
        return float(self.found.reliability[place])

    def raters(self) -> list[dict[str, Any]]:
        """Each rater's pseudonym, judgements, and reliability with its 95 % interval; beside it
        those of GLAD and, of pairs, of noisy Bradley-Terry.
        """
        found, said = self.found, self.judgements.said()
        if found is None:
            return []
        count = np.bincount(said.rater, minlength=said.raters)
        beside = {"glad": self._glad, "bradley_terry": self._crowd_bt}
        return [
            {
                "rater": name,
                "judgements": int(count[k]),
                "reliability": finite(found.reliability[k]),
                "low": finite(found.low[k]),
                "high": finite(found.high[k]),
                **{m: finite(fit.reliability[k]) for m, fit in beside.items() if fit is not None},
                "groups": dict(self.judgements.groups[k]),
            }
            for k, name in enumerate(self.judgements.rater_names)
        ]


@dataclass(frozen=True)
class Compared:
    """One way to weigh judgements beside Dawid and Skene's."""

    method: str
    differs: Interval
    """Share of items with another label, of those on which both have one."""
    undecided: int
    """Items without a known answer that get no label: by Dawid and Skene as in exports
    (``settled``), by another way those whose likeliest labels are equally likely."""
    sure: float
    """Mean of P(label) by its own account."""
    right: Interval
    """Share right of items with a known gold; no label, and a tie where gold knows better, count
    half."""
    gold: int
    """Items with a known gold."""


def compared(consensus: Consensus) -> list[Compared]:
    """How the labels of each method differ, Dawid and Skene's first."""
    found, gold = list[Compared](), consensus.judgements.gold
    for method, labels in consensus.methods.items():
        base = consensus.methods["dawid_skene"]
        judged = labels.raters > 0
        both = judged & (labels.label >= 0) & (base.label >= 0)
        hits = right(labels, gold)
        told = settled(consensus.judgements, labels) if labels is base else labels
        found.append(
            Compared(
                method,
                _share(labels.label[both] != base.label[both]),
                int((judged & np.isnan(gold) & (told.label < 0)).sum()),
                _mean(labels.certainty[judged]),
                _share(hits),
                len(hits),
            )
        )
    return found


def _mean(x: Floats) -> float:
    """Of what is known."""
    known = x[~np.isnan(x)]
    return float(known.mean()) if len(known) else math.nan


def _share(hits: Floats | Flags) -> Interval:
    """Mean of what is 0 to 1, with Wilson's interval."""
    if not len(hits):
        return Interval(math.nan, 0.0, 1.0, 0.95)
    p, n = np.array([hits.mean()]), np.array([len(hits)])
    low, high = wilson_bounds(p, n)
    return Interval(float(p[0]), float(low[0]), float(high[0]), 0.95)


def least_sure(consensus: Consensus, *, count: int = 20, below: float = 0.95) -> list[str]:
    """Names of items with the lowest posterior, least sure first; those with gold left out."""
    if consensus.found is None:
        return []
    labels = consensus.found.labels
    doubt = (labels.raters > 0) & np.isnan(consensus.judgements.gold)
    doubt &= np.nan_to_num(labels.certainty, nan=1.0) < below
    places = np.flatnonzero(doubt)
    order = np.argsort(labels.certainty[places], kind="stable")[:count]
    return [consensus.judgements.item_names[int(place)] for place in places[order]]


def agreed(
    judgements: Judgements, *, ratings: bool = False, resamples: int = RESAMPLES
) -> dict[str, Any] | None:
    """Percent agreement, α, κ and AC with their intervals, as JSON; none where nobody judged.

    Of pairs the better answer counts, not the strength. ``ratings``: misses count by the square of
    their size. ``light`` is the mean of Cohen's κ over pairs of raters.
    """
    if not len(judgements.said()):
        return None
    metric: Metric = "interval" if ratings else "nominal"
    sides = judgements.sides()
    found = agreement(sides, metric=metric, resamples=resamples)
    names = ("percent", "alpha", "fleiss", "gwet")
    light = rater_pairs(sides, weights="quadratic" if ratings else None).light
    return {name: getattr(found, name).as_json() for name in names} | {
        "light": finite(light),
        "metric": metric,
        "items": found.items,
        "judgements": found.judgements,
    }
