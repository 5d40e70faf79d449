"""Plackett-Luce-DPO: the whole ranking of K answers at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.direct import DirectObjective, Told
from backflip.data.batches import ComparisonBatch
from backflip.functional.reward_losses import plackett_luce

__all__ = ["PlackettLuceDPO"]


@dataclass(frozen=True, kw_only=True)
class PlackettLuceDPO(DirectObjective):
    """−log P(ranking) on implicit rewards β·log π/π_ref (Rafailov et al., 2023, appendix A.3).

    The best answer is drawn first, then the best of the rest. For K = 2 this is DPO. Ties follow
    Efron; prompts whose answers are all tied say nothing.
    """

    def per_prompt(self, told: Told, batch: ComparisonBatch) -> Float[Tensor, " B"]:
        scores = self.reward(told)
        sizes = torch.bincount(told.prompt, minlength=len(batch))
        mask = torch.arange(int(sizes.max()), device=sizes.device) < sizes[:, None]
        padded = scores.new_zeros(mask.shape).masked_scatter(mask, scores)
        rank = told.rank.new_zeros(mask.shape).masked_scatter(mask, told.rank)
        return plackett_luce(padded, rank, mask)
