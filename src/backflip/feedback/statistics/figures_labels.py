"""The part of the figures that labels and reliabilities come from: one consensus of all raters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backflip.feedback.statistics.agreement import RaterPairs, rater_pairs
from backflip.feedback.statistics.consensus import Consensus, compared, least_sure
from backflip.feedback.statistics.dawid_skene import DawidSkene, posterior_of
from backflip.feedback.statistics.judgements import Judgements
from backflip.functional.statistics import finite

UNSURE = 20
"""Items of the list of those that are least sure."""
MOST_RATERS = 30
"""Raters of the table who agrees with whom: those with the most judgements."""
FEWEST_SHARED = 5
"""Items that two raters must share for their agreement to be coloured."""
DIGITS = 5
"""Of a rater's habits in the file."""


def labels(consensus: Consensus) -> dict[str, Any]:
    """How the ways to come to a label differ, and the items whose label is least sure."""
    return {
        "methods": [
            {
                "method": one.method,
                "differs": one.differs.as_json(),
                "undecided": one.undecided,
                "sure": finite(one.sure),
                "right": one.right.as_json(),
                "gold": one.gold,
            }
            for one in compared(consensus)
        ],
        "unsure": [_unsure(consensus, name) for name in least_sure(consensus, count=UNSURE)],
    }


def _unsure(consensus: Consensus, name: str) -> dict[str, Any]:
    verdict = consensus.of(name)
    assert verdict is not None  # least sure among those that were judged
    return {
        "item": name,
        "value": finite(verdict.value),
        "posterior": finite(verdict.posterior),
        "low": finite(verdict.low),
        "high": finite(verdict.high),
        "raters": verdict.raters,
        "others": {method: one["value"] for method, one in consensus.others(name).items()},
    }


def habits(consensus: Consensus) -> dict[str, Any] | None:
    """Confusions of raters by Dawid and Skene, so that one item's posterior is a sum and no fit."""
    found = consensus.found
    if found is None:
        return None
    names = consensus.judgements.rater_names
    return {
        "classes": found.labels.classes.tolist(),
        "prior": found.prior.round(DIGITS).tolist(),
        "split": found.split,
        "raters": {names[k]: found.confusion[k].round(DIGITS).tolist() for k in _known(found)},
    }


def _known(found: DawidSkene) -> list[int]:
    return [int(k) for k in np.flatnonzero(~np.isnan(found.reliability))]


def posterior(known: Mapping[str, Any], said: Sequence[tuple[str, float]]) -> dict[float, float]:
    """P of each value of an item from what raters, by pseudonym, said of it, by their ``habits``.

    Raters and values that the figures do not know yet are left out; empty where that is all.
    """
    place = {value: number for number, value in enumerate(known["classes"])}
    heard = [
        (known["raters"][rater], place[value])
        for rater, value in said
        if rater in known["raters"] and value in place
    ]
    if not heard:
        return {}
    matrices, codes = zip(*heard, strict=True)
    prior, split = np.array(known["prior"]), bool(known["split"])
    found = posterior_of(prior, np.array(matrices), np.array(codes, np.int64), split=split)
    return dict(zip(known["classes"], found.tolist(), strict=True))


def whom(judgements: Judgements, *, ratings: bool = False) -> dict[str, Any]:
    """Who agrees with whom: of every two raters the share said alike, Cohen's κ and shared items.

    ``ratings``: κ counts misses by the square of their size. ``light``: the mean κ of all pairs.
    """
    sides = judgements.sides()
    count = np.bincount(sides.said().rater, minlength=sides.raters)
    found = rater_pairs(sides, weights="quadratic" if ratings else None)
    order = np.argsort(-count, kind="stable")
    kept = [int(k) for k in order if count[k]]
    shown = kept[:MOST_RATERS]
    return {
        "names": [judgements.rater_names[k] for k in shown],
        "more": len(kept) - len(shown),
        "light": finite(found.light),
        "rows": [[_cell(found, a, b) for b in shown] for a in shown],
    }


def _cell(found: RaterPairs, a: int, b: int) -> dict[str, Any] | None:
    shared = int(found.shared[a, b])
    if a == b or not shared:
        return None
    return {"same": finite(found.same[a, b]), "kappa": finite(found.kappa[a, b]), "shared": shared}
