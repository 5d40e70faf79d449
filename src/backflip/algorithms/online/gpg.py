"""GPG: the policy gradient over siblings and nothing else (Chu et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.on_policy import OnPolicy
from backflip.data.batches import Scored
from backflip.functional.group_credit import useful_share

__all__ = ["GPG"]


@dataclass(frozen=True, kw_only=True)
class GPG(GroupRelative, OnPolicy):
    """Advantage = α·(reward − mean of the siblings); α makes up for groups that teach nothing.

    (2504.02546.) α = answers of the batch / answers in groups whose rewards differ; verl
    divides by the answers whose reward is not 0 instead. No ratio, no clip, no KL.
    """

    title: ClassVar[str] = "GPG"

    divide_by_std: bool = False
    """Divide by the deviation of the siblings besides (the paper's F = std; 1 by default)."""

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        useful = useful_share(self.scores(scored), scored.rollouts.group)
        return super().of_answers(scored) / (useful or 1.0)
