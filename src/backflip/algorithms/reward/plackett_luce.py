"""Plackett-Luce: the whole ranking of K answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.algorithms.reward.base import preference, prompts_with_a_winner, rankings, rate
from backflip.data.batches import ComparisonBatch
from backflip.functional.reward_losses import plackett_luce

__all__ = ["PlackettLuce"]


@dataclass(frozen=True, kw_only=True)
class PlackettLuce(Objective):
    """−log P(ranking), the best drawn first, then the best of the rest (Plackett, 1975).

    For K = 2 this is Bradley-Terry. Prompts whose answers are all tied say nothing.
    """

    title: ClassVar[str] = "Plackett-Luce"

    def counts(self, batch: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        return {"preference": (prompts_with_a_winner(batch) * batch.weight).sum()}

    def loss(self, model: Any, batch: ComparisonBatch) -> Outcome:
        rated = rate(model, batch)
        per_prompt = plackett_luce(*rankings(rated.scores, rated.rank, batch.answers.lengths))
        return preference(rated, per_prompt, prompts_with_a_winner(batch) * batch.weight)
