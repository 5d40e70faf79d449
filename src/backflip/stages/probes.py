"""Canary answers: what a reward model says of answers that nobody wants, beside the policy's own.

At each validation, on a few held-out prompts: the answer to another prompt, an empty answer, one
token again and again; and how much of a score comes with one piece of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts, TokenSteps
from backflip.reward.protocol import RewardSource

__all__ = ["feature_distance", "features", "probed"]

PROMPTS = 16
"""Prompts that are probed."""
PIECES, TAKEN_APART = 16, 8
"""Pieces that an answer is cut into, and answers that are."""
FLAT = 1e-4
"""A dimension whose deviation is below this share of the largest says nothing."""


def probed(judge: RewardSource, rollouts: Rollouts, each: int) -> dict[str, float]:
    """Mean scores, as metrics of a validation; ``each``: answers to a prompt, of which the first is
    probed. Fewer than two prompts with an answer say nothing.
    """
    rows = torch.arange(0, len(rollouts), each)[:PROMPTS]
    rows = rows[rollouts.finished[rows] & (rollouts.mask[rows].sum(-1) > 1)]
    if len(rows) < 2 or not isinstance(rollouts.steps, TokenSteps):
        return {}
    own = rollouts[rows]
    answers = [row.tolist() for row in own.steps.answer.rows()]
    canaries = {
        "own": answers,
        "swapped": [*answers[1:], answers[0]],
        "empty": [answer[-1:] for answer in answers],
        "repeated": [[*answer[:1] * (len(answer) - 1), answer[-1]] for answer in answers],
    }
    found = {
        f"val_canary_{name}": float(judge(_with(own, said)).scores.nanmean())
        for name, said in canaries.items()
    }
    found["val_one_piece"] = _one_piece(judge, own, answers)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def features(judge: Any, rollouts: Rollouts) -> Tensor | None:
    """Hidden states of the reward model that judges, or of an ensemble's first member; None where
    none is found behind ``judge``.
    """
    while judge is not None and not hasattr(judge, "features"):
        members = getattr(judge, "members", ())
        judge = next(iter(members), getattr(judge, "source", None))
    return None if judge is None else judge.features(rollouts)


def feature_distance(now: Float[Tensor, "B D"], start: Float[Tensor, "A D"]) -> float:
    """Mean squared distance to the middle of the start's answers, over that of the start's own.

    Each dimension is measured in its deviation at the start, so that 1 is no farther than that.
    """
    middle, spread = start.mean(0), start.std(0, correction=0)
    kept = spread > FLAT * spread.max()
    if not bool(kept.any()):
        return math.nan
    return float(((now - middle)[:, kept] / spread[kept]).square().mean())


def _one_piece(judge: RewardSource, own: Rollouts, answers: Sequence[list[int]]) -> float:
    """Mean share of the changes of a score, as its answer is read on, that one piece makes.

    Scores are read where each of up to ``PIECES`` pieces ends, as if the answer ended there.
    """
    shares = list[float]()
    for row, answer in enumerate(answers[:TAKEN_APART]):
        ends = sorted({math.ceil(len(answer) * i / PIECES) for i in range(1, PIECES + 1)})
        if len(ends) < 3:
            continue
        same = own[torch.full((len(ends),), row)]
        scores = judge(_with(same, [answer[:end] for end in ends])).scores
        steps = scores.diff().abs()
        if bool(steps.isfinite().all()) and float(steps.sum()) > 0:
            shares.append(float(steps.max() / steps.sum()))
    return sum(shares) / len(shares) if shares else math.nan


def _with(rollouts: Rollouts, answers: Sequence[Sequence[int]]) -> Rollouts:
    """The same prompts with other answers, each taken to be finished."""
    prompts = [row.tolist() for row in rollouts.steps.prompt.rows()]
    steps = TokenSteps.of(prompts, answers)
    return Rollouts(
        steps=steps,
        mask=steps.mask,
        logp=torch.zeros(len(answers), steps.width),
        group=torch.arange(len(answers)),
        finished=torch.ones(len(answers), dtype=torch.bool),
        row=rollouts.row,
    )
