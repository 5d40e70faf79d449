"""Plackett-Luce-DPO: the whole ranking of K answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.base import ComparedLogps, DirectObjective
from backflip.algorithms.reward.base import rankings
from backflip.data.batches import ComparisonBatch
from backflip.functional.reward_losses import plackett_luce

__all__ = ["PlackettLuceDPO"]


@dataclass(frozen=True, kw_only=True)
class PlackettLuceDPO(DirectObjective):
    """−log P(ranking) on implicit rewards β·log π/π_ref (Rafailov et al., 2023, appendix A.3).

    The best answer is drawn first, then the best of the rest. For K = 2 this is DPO. Ties follow
    Efron; prompts whose answers are all tied say nothing.
    """

    title: ClassVar[str] = "Plackett-Luce DPO"

    def per_prompt(self, told: ComparedLogps, batch: ComparisonBatch) -> Float[Tensor, " B"]:
        return plackett_luce(*rankings(self.reward(told), told.rank, batch.answers.lengths))
