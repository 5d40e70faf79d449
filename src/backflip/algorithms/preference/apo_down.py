"""APO down: both answers down, the worse one more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.functional.preference_losses import apo_down

__all__ = ["APODown"]


@dataclass(frozen=True, kw_only=True)
class APODown(PairObjective):
    """σ(β·log-ratio of the better) + [1 − σ(β·difference of both)] (D'Oosterlinck et al., 2024).

    For a policy that already writes better than the chosen answers; otherwise ``APOZero``. The
    constant 1 is not the paper's.
    """

    title: ClassVar[str] = "APO down"

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        return apo_down(better.ratio, worse.ratio, beta=self.beta)
