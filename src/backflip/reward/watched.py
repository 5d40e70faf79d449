"""A gold that is watched beside the reward, and of which nothing learns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from backflip.data.batches import Rollouts
from backflip.reward.protocol import Judgement, RewardSource

__all__ = ["GOLD", "Watched"]

GOLD = "gold"
"""The part of a judgement that holds the gold's scores."""


@dataclass(frozen=True)
class Watched:
    """The judgement of ``source``, with the scores of ``gold`` among its parts.

    NaN where the gold has no score; why is not counted among the reward's own failures.
    """

    source: RewardSource
    gold: RewardSource

    def __call__(self, rollouts: Rollouts) -> Judgement:
        judged, watched = self.source(rollouts), self.gold(rollouts)
        scores = watched.scores.to(judged.scores)
        scores = torch.where(scores.isfinite(), scores, torch.nan)
        return replace(judged, parts={**judged.parts, GOLD: scores})
