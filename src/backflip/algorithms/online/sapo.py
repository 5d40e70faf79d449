"""SAPO: a soft gate in the place of the clip (Gao et al., 2025)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.policy_loss import PolicyLoss, Reduction
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.functional.policy_variants import sapo

__all__ = ["SAPO"]

Temperature = Annotated[
    float,
    Within(0.0, math.inf, "the gate divides by it", open=True),
    Usual(0.5, 2.0, "1 for good choices, 1.05 for bad ones"),
]


@dataclass(frozen=True, kw_only=True)
class SAPO(GroupRelative, PolicyLoss):
    """GRPO whose ratio passes (4/τ) σ(τ (r − 1)): gradients fade as r leaves 1, and never end."""

    title: ClassVar[str] = "SAPO"

    tau_good: Temperature = 1.0
    """τ of choices with advantages above 0: higher fades sooner."""
    tau_bad: Temperature = 1.05
    """τ of all others, whose gradients spread over the vocabulary."""
    reduction: Reduction = "sequence_mean"
    """Within each answer, then over answers."""

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        old, tau = batch.scored.logp_old, {"tau_good": self.tau_good, "tau_bad": self.tau_bad}
        return sapo(now["logp"], old, batch.advantages, **tau)
