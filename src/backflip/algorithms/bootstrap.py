"""An ensemble of heads on one trunk: each learns from a bootstrap sample of the prompts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.data.batches import ComparisonBatch, TokenSteps
from backflip.functional.reductions import Loss

__all__ = ["Bootstrapped", "bootstrap_weights"]

MOST = 12
"""Copies of one prompt in a sample, beyond which Poisson's chance is below 1e-10."""


@dataclass(frozen=True, kw_only=True)
class Bootstrapped(Objective):
    """``objective`` for each of M heads, prompts counting Poisson(1) times for each of them.

    A bootstrap sample of many prompts has each of them as often as such a draw says (Oza and
    Russell, 2001). The loss is the mean over heads, so that its expectation and its denominator
    are those of ``objective``. Rows of head M, where there are some, are learnt by it alone.
    """

    title: ClassVar[str] = "bootstrap ensemble"
    objective: Objective
    members: int
    """M: heads 0 … M − 1 are the ensemble; rows of head 0 are theirs."""
    seed: int = 0

    def counts(self, batch: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        return self.objective.counts(batch)

    def loss(self, model: Any, batch: ComparisonBatch) -> Outcome:
        read = _Read(model.raw_scores(batch.answers.values))
        drawn = bootstrap_weights(batch, self.members, self.seed).to(batch.weight.device)
        own = (batch.head == 0).float()
        totals: dict[str, Tensor] = {}
        for number in range(self.members):
            weight = batch.weight * drawn[:, number] * own / self.members
            head = torch.where(batch.head == 0, number, batch.head)
            _add(totals, self.objective.loss(read, replace(batch, head=head, weight=weight)))
        if not bool(own.all()):
            apart = replace(batch, weight=batch.weight * (1 - own))
            _add(totals, self.objective.loss(read, apart))
        mean = _Read(read.mean_of(self.members))
        whole = self.objective.loss(mean, batch)
        losses = {n: Loss(total, whole.losses[n].count) for n, total in totals.items()}
        return Outcome(losses, whole.metrics)


@dataclass(frozen=True)
class _Read:
    """Scores that have been read, in the place of a model."""

    scores: Float[Tensor, "N heads"]

    def raw_scores(self, steps: TokenSteps) -> Float[Tensor, "N heads"]:
        del steps
        return self.scores

    def mean_of(self, members: int) -> Float[Tensor, "N heads"]:
        """The mean of the members in the place of the first, without a graph."""
        scores = self.scores.detach().clone()
        scores[:, 0] = scores[:, :members].mean(1)
        return scores


def _add(totals: dict[str, Tensor], outcome: Outcome) -> None:
    for name, loss in outcome.losses.items():
        totals[name] = totals[name] + loss.total if name in totals else loss.total


def bootstrap_weights(
    batch: ComparisonBatch, members: int, seed: int = 0
) -> Float[Tensor, "B members"]:
    """Copies of each row in each member's sample, Poisson(1), decided by its prompt and the seed.

    So a row counts the same in every epoch and on every rank, and rows of one prompt go together.
    """
    steps: Any = batch.answers.values
    firsts: Iterator[Any] = steps[batch.answers.offsets[:-1]].prompt.rows()
    prompts: list[list[int]] = [prompt.tolist() for prompt in firsts]
    drawn = [[_copies(prompt, member, seed) for member in range(members)] for prompt in prompts]
    return torch.tensor(drawn, dtype=torch.float32).reshape(len(prompts), members)


def _copies(prompt: list[int], member: int, seed: int) -> int:
    digest = hashlib.blake2b(repr((seed, member, prompt)).encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    chance = below = math.exp(-1)
    copies = 0
    while place >= below and copies < MOST:
        copies += 1
        chance /= copies
        below += chance
    return copies
