"""VESPO: a smooth weight by the whole answer's ratio (arXiv 2602.10693)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.policy_loss import PolicyLoss
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.functional.policy_variants import vespo

__all__ = ["VESPO"]

Power = Annotated[
    float, Within(0.0, math.inf, "it bounds the weight"), Usual(1.0, 4.0, "2 and 3, as in TRL")
]


@dataclass(frozen=True, kw_only=True)
class VESPO(GroupRelative, PolicyLoss):
    """REINFORCE weighed by w^k e^(λ(1 − w)), w = π/π_old of the whole answer, without a gradient.

    The weight is 1 on policy and falls to 0 on both sides; the ratio is not divided by length.
    """

    title: ClassVar[str] = "VESPO"

    k_good: Power = 2.0
    """k of choices with advantages of 0 and above."""
    lam_good: Power = 3.0
    """λ of the same."""
    k_bad: Power = 3.0
    """k of choices with advantages below 0."""
    lam_bad: Power = 2.0
    """λ of the same."""

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        old, mask = batch.scored.logp_old, batch.scored.rollouts.mask
        bumps = {"good": (self.k_good, self.lam_good), "bad": (self.k_bad, self.lam_bad)}
        return vespo(now["logp"], old, batch.advantages, mask, **bumps)
