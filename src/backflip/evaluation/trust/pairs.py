"""Decided pairs with what a judge, or several of them, scored, and what their records say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from backflip.data.batches import ComparisonBatch
from backflip.data.records import Comparison, Messages
from backflip.evaluation.reward_model import prompt_numbers
from backflip.functional.reward_losses import decided_pairs
from backflip.functional.statistics import (
    Interval,
    Numbers,
    accuracy,
    jackknife_interval,
    share_interval,
)

__all__ = ["JudgedPairs", "Refusal", "combined", "difference_interval", "judged_pairs"]


@dataclass(frozen=True)
class Refusal:
    """The reason why there is no number."""

    reason: str

    def to_json(self) -> dict[str, str]:
        """In place of a number."""
        return {"refused": self.reason}


@dataclass(frozen=True)
class JudgedPairs:
    """P pairs, in each of which people preferred one answer, with scores that are numbers."""

    delta: Numbers
    """[P] score of the preferred answer less that of the other."""
    by_member: Numbers
    """[P, M] the same by each of M judges."""
    soft: Numbers
    """[P] P(the preferred one is better), 1 for a hard label."""
    prompt: NDArray[np.int64]
    """[P] number of the prompt, the same wherever the same is asked."""
    longer_by: Numbers
    """[P] tokens that the preferred answer has more."""
    lengths: Numbers
    """[P, 2] tokens of the preferred and of the other answer."""
    records: tuple[Comparison, ...]
    """The record of each pair."""
    answers: tuple[tuple[Messages, Messages], ...]
    """Of each pair the preferred answer and the other."""
    unscored: int
    """Decided pairs left out, because a score of theirs is not a number."""

    @property
    def right(self) -> Numbers:
        """[P] 1 where the preferred answer scored higher, ½ for equal scores."""
        return accuracy(self.delta)

    def __len__(self) -> int:
        return len(self.delta)


def combined(scores: Float[Tensor, "N M"], ordinary: Float[Tensor, "A M"]) -> Float[Tensor, " N"]:
    """The mean over judges of their scores in units of each one's spread, times the mean spread.

    So a judge with a wider scale does not outvote the others, and σ of a difference stays as
    sure as the judges are on average. Of one judge, its scores as they are. ``ordinary``: scores
    of the answers on which spreads are taken.
    """
    if scores.shape[1] == 1:
        return scores[:, 0]
    finite = ordinary[torch.isfinite(ordinary).all(1)].double()
    spread = finite.std(0, correction=0).clamp(min=1e-12)
    return (scores / spread.to(scores)).mean(1) * float(spread.mean())


def judged_pairs(
    scores: Float[Tensor, "N M"],
    batch: ComparisonBatch,
    records: Sequence[Comparison],
    *,
    ordinary: Float[Tensor, "A M"] | None = None,
) -> JudgedPairs:
    """The decided pairs of a batch, but for those with a score that is not a number.

    ``records``: one for each row of ``batch``. ``ordinary``: scores by which those of several
    judges are brought to one scale; these themselves if not said.
    """
    pairs = decided_pairs(batch.rank.values, batch.answers.owner())
    whole = combined(scores, scores if ordinary is None else ordinary)
    delta = (whole[pairs.better] - whole[pairs.worse]).double()
    kept = torch.isfinite(delta)
    better, worse, row = (part[kept] for part in pairs)
    start = batch.answers.offsets[row]
    places = zip((better - start).tolist(), (worse - start).tolist(), strict=True)
    whose = tuple(records[number] for number in row.tolist())
    length = batch.answers.values.answer.lengths.double()
    lengths = torch.stack([length[better], length[worse]], 1).numpy()
    return JudgedPairs(
        delta=delta[kept].numpy(),
        by_member=(scores[better] - scores[worse]).double().numpy(),
        soft=batch.soft[row].double().numpy(),
        prompt=prompt_numbers(batch)[row].numpy(),
        longer_by=lengths[:, 0] - lengths[:, 1],
        lengths=lengths,
        records=whose,
        answers=tuple(
            (record.answers[a], record.answers[b])
            for record, (a, b) in zip(whose, places, strict=True)
        ),
        unscored=int((~kept).sum()),
    )


def difference_interval(
    x: Numbers, some: NDArray[np.bool_], group: NDArray[Any], *, level: float = 0.95
) -> Interval:
    """Mean of ``x``, from 0 to 1, over some rows less that over the others.

    The wider of two: the jackknife over groups, which knows that a group may have rows on both
    sides, and the intervals of the two shares put together (Newcombe, 1998), which have a width
    where all of a side is right. Not a number where a side has no row.
    """
    _, place = np.unique(group, return_inverse=True)
    sides = [(np.bincount(place, x * one), np.bincount(place, one)) for one in (some, ~some)]
    with np.errstate(invalid="ignore", divide="ignore"):
        left = [(total.sum() - total) / (rows.sum() - rows) for total, rows in sides]
    a, b = (share_interval(x[one], group[one], level=level) for one in (some, ~some))
    apart = a.estimate - b.estimate
    if math.isnan(apart):
        return Interval(apart, -1.0, 1.0, level, 0)
    by_group = jackknife_interval(apart, left[0] - left[1], level=level, within=(-1.0, 1.0))
    down = math.hypot(a.estimate - a.low, b.high - b.estimate)
    up = math.hypot(a.high - a.estimate, b.estimate - b.low)
    low, high = max(min(by_group.low, apart - down), -1.0), min(max(by_group.high, apart + up), 1.0)
    return Interval(apart, low, high, level, min(a.units or 0, b.units or 0))
