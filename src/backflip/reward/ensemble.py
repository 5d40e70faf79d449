"""Ensembles of reward models (Coste et al., 2023), whose disagreement measures uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from backflip.data.batches import Rollouts
from backflip.reward.protocol import Judgement, RewardSource

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble:
    """Scores of the members combined: their mean, the worst, or the mean less λ·variance.

    ``parts`` holds ``spread``, the standard deviation over the members; what the members watch
    besides, such as a held-out head, is averaged.
    """

    members: Sequence[RewardSource]
    combine: Literal["mean", "worst", "uncertainty"] = "mean"
    uncertainty_coef: float = 0.1
    """λ, for ``uncertainty`` (Coste et al.: 0.1 in PPO)."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        judged = [member(rollouts) for member in self.members]
        scores = torch.stack([judgement.scores for judgement in judged])
        if self.combine == "worst":
            combined = scores.amin(0)
        else:
            combined = scores.mean(0)
            if self.combine == "uncertainty":
                combined = combined - self.uncertainty_coef * scores.var(0, correction=0)
        names = set.intersection(*(set(judgement.parts) for judgement in judged))
        parts = {n: torch.stack([j.parts[n] for j in judged]).mean(0) for n in sorted(names)}
        return Judgement(combined, {**parts, "spread": scores.std(0, correction=0)})
