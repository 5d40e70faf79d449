"""OPO: the reward baseline of least variance (Hao et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import OverSiblings
from backflip.algorithms.online.on_policy import OnPolicy
from backflip.algorithms.online.policy_loss import Reduction
from backflip.data.batches import Scored
from backflip.functional.group_credit import length_weighted

__all__ = ["OPO"]


@dataclass(frozen=True, kw_only=True)
class OPO(OverSiblings, OnPolicy):
    """Advantage = reward − mean of the siblings weighted by their lengths; exactly on policy.

    (2505.23585.) Neither a deviation nor KL nor entropy: the loss is −A·log π of the answer.
    """

    title: ClassVar[str] = "OPO"

    reduction: Reduction = "constant"
    """The sum over tokens for each answer, divided by ``length`` and averaged over answers."""
    length: int | None = 1
    """1: the gradient of log π of the whole answer."""

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        r = scored.rollouts
        return length_weighted(self.scores(scored), r.group, r.mask.sum(-1))
