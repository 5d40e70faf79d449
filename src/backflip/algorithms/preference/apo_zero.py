"""APO zero: the better answer up, the worse one down, each for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.functional.preference_losses import apo_zero

__all__ = ["APOZero"]


@dataclass(frozen=True, kw_only=True)
class APOZero(PairObjective):
    """[1 − σ(β·log-ratio of the better)] + σ(β·log-ratio of the worse) (D'Oosterlinck, 2024).

    For answers that are better than what the policy writes. For one that writes better than the
    chosen answers: ``APODown``. The constant 1 is not the paper's.
    """

    title: ClassVar[str] = "APO zero"

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        return apo_zero(better.ratio, worse.ratio, beta=self.beta)
