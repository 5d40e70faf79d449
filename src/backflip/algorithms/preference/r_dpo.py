"""R-DPO: length explains part of a preference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.functional.preference_losses import length_regularised_dpo

__all__ = ["RDPO"]


@dataclass(frozen=True, kw_only=True)
class RDPO(PairObjective):
    """−log σ(β·difference of log-ratios + α·(|y_w| − |y_l|)) (Park et al., 2024).

    DPO for the reward r(y) − α·|y|: where the longer answer was preferred, its length accounts for
    some of that, and the policy need learn only the rest. Soft labels by cross-entropy.
    """

    title: ClassVar[str] = "R-DPO"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft"})
    length_coef: float = 0.01
    """α: what a token of length is worth to whoever labelled, in the unit of the reward."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        delta, longer_by = better.ratio - worse.ratio, better.length - worse.length
        return length_regularised_dpo(
            delta, longer_by, beta=self.beta, alpha=self.length_coef, soft=better.soft
        )

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        """The explanation of the labels: the policy's share and that of the length."""
        return self.beta * told.ratio + self.length_coef * told.length

    def implicit_reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.beta * told.ratio
