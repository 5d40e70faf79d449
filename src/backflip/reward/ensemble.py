"""Ensembles of reward models (Coste et al., 2023), whose disagreement measures uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.reward.protocol import Judgement, RewardSource

__all__ = ["Combination", "Ensemble", "combine"]

Combination: TypeAlias = Literal["mean", "worst", "uncertainty"]


def combine(
    scores: Float[Tensor, "M B"], how: Combination = "mean", *, uncertainty_coef: float = 0.1
) -> Float[Tensor, " B"]:
    """One score for each answer: the members' mean, the worst, or the mean less λ·variance.

    Coste et al. (2023), eq. 3 and 4: worst-case and uncertainty-weighted optimisation, λ being
    ``uncertainty_coef``, on members that are standardised.
    """
    if how == "worst":
        return scores.amin(0)
    mean = scores.mean(0)
    if how == "mean":
        return mean
    return mean - uncertainty_coef * scores.var(0, correction=0)


@dataclass(frozen=True)
class Ensemble:
    """Scores of the members combined.

    ``parts`` holds ``spread``, the standard deviation over the members; what the members watch
    besides, such as a held-out head, is averaged.
    """

    members: Sequence[RewardSource]
    combine: Combination = "mean"
    uncertainty_coef: float = 0.1
    """λ, for ``uncertainty`` (Coste et al.: 0.1 in PPO)."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        judged = [member(rollouts) for member in self.members]
        scores = torch.stack([judgement.scores for judgement in judged])
        names = set.intersection(*(set(judgement.parts) for judgement in judged)) - {"spread"}
        parts = {n: torch.stack([j.parts[n] for j in judged]).mean(0) for n in sorted(names)}
        combined = combine(scores, self.combine, uncertainty_coef=self.uncertainty_coef)
        return Judgement(combined, {**parts, "spread": scores.std(0, correction=0)})
