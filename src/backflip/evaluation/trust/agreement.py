"""Agreement of raters with each other, which bounds that of any model with them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from backflip.data.records import Comparison
from backflip.evaluation.trust.pairs import JudgedPairs, Refusal
from backflip.functional.statistics import Interval, bounded_interval, paired_difference

__all__ = ["Agreement", "raters_agreement"]

PEOPLE = ("raters", "n_raters", "votes", "n_votes", "annotators")
"""Columns with the people who judged a pair, or how many they are, beside a soft label."""


@dataclass(frozen=True)
class Agreement:
    """Single judgements of pairs that several people judged."""

    pairs: int
    """Pairs that were judged twice or more, and judgements of them."""
    judgements: int
    raters: Interval
    """P(two raters of a pair prefer the same answer), each pair counting once."""
    model: Interval
    """P(the model and a rater prefer the same answer), on the same pairs."""
    gap: Interval
    """``model`` less ``raters``, pair by pair."""

    @property
    def ceiling(self) -> Interval:
        """The greatest share of single judgements that any model can agree with.

        A pair on which a share p says so is matched by at most max(p, 1 − p) = (1 + √(2a − 1))/2
        of them, a = p² + (1 − p)² being its raters' agreement. That is concave in a, so its mean
        is at most its value at the mean of a (Jensen).
        """
        ends = (self.raters.estimate, self.raters.low, self.raters.high)
        low, middle, high = (
            (1 + math.sqrt(max(2 * a - 1, 0.0))) / 2 for a in (ends[1], ends[0], ends[2])
        )
        return Interval(middle, low, high, self.raters.level, self.raters.units)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "pairs": self.pairs,
            "judgements": self.judgements,
            **self.raters.named("raters"),
            **self.model.named("model"),
            **self.gap.named("gap"),
            **self.ceiling.named("ceiling"),
        }


def raters_agreement(pairs: JudgedPairs, columns: Mapping[str, str]) -> Agreement | Refusal:
    """Agreement on all pairs with two judgements or more.

    Those are rows that ask the same of different raters, who are named by a column, and rows whose
    label is the share of a number of people. Ties among the judgements are left out.

    Args:
        pairs: with their records.
        columns: the columns by their subjects, ``rater`` among them.

    """
    several = [one for one in _items(pairs, columns).values() if sum(one.votes) >= 2]
    if not several:
        return Refusal("no pair was judged twice, so how often people agree is not known")
    agree = np.array([_alike(*one.votes) for one in several])
    with_model = np.array([one.matched / sum(one.votes) for one in several])
    prompt = np.array([one.prompt for one in several])
    return Agreement(
        pairs=len(several),
        judgements=round(sum(sum(one.votes) for one in several)),
        raters=bounded_interval(agree, prompt),
        model=bounded_interval(with_model, prompt),
        gap=paired_difference(with_model, agree, prompt),
    )


@dataclass
class _Item:
    """The judgements of one pair of answers."""

    prompt: int
    votes: list[float]
    """For the answer whose text comes first, and for the other."""
    raters: set[str] = field(default_factory=set[str])
    matched: float = 0.0
    """Judgements that the model shares; ½ of each where it scores both the same."""


def _items(pairs: JudgedPairs, columns: Mapping[str, str]) -> dict[Hashable, _Item]:
    """Pairs of answers by their texts, whichever order a row has them in."""
    found: dict[Hashable, _Item] = {}
    shares = _are_shares(pairs.records)
    for number, record in enumerate(pairs.records):
        better, worse = pairs.answers[number]
        first = repr(better) <= repr(worse)
        key = (record.prompt, (better, worse) if first else (worse, better))
        one = found.setdefault(key, _Item(int(pairs.prompt[number]), [0.0, 0.0]))
        raters = {str(record.info.get(columns.get("rater", "")))}
        for_better, for_worse = (1.0, 0.0)
        if shares and (many := _people(record)):
            for_better, for_worse = round(record.soft * many), many - round(record.soft * many)
        if one.raters & raters:  # the same row twice, or nobody says that it is another person
            continue
        one.raters |= raters
        one.votes[0 if first else 1] += for_better
        one.votes[1 if first else 0] += for_worse
        right = float(pairs.right[number])
        one.matched += right * for_better + (1 - right) * for_worse
    return found


def _are_shares(records: Sequence[Comparison]) -> bool:
    """Whether soft labels are shares of the people that rows count.

    Hard labels of several people are majorities, and posteriors are no multiples of a vote.
    """
    said = [(record.soft * many, record.soft) for record in records if (many := _people(record))]
    whole = all(abs(votes - round(votes)) < 0.01 for votes, _ in said)
    return whole and any(soft < 1 for _, soft in said)


def _people(record: Comparison) -> int:
    """The number of people that a row says have judged it; 0 where it says none."""
    value = next((record.info[name] for name in PEOPLE if name in record.info), None)
    many = len(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else value
    return many if isinstance(many, int) and not isinstance(many, bool) and many > 1 else 0


def _alike(a: float, b: float) -> float:
    """Share of all pairs of judgements that are the same."""
    many = a + b
    return (a * (a - 1) + b * (b - 1)) / (many * (many - 1))
