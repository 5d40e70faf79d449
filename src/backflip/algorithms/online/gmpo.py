"""GMPO: the geometric mean of an answer's ratios (Zhao et al., 2025)."""

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
from backflip.functional.policy_losses import clip_fraction
from backflip.functional.policy_variants import gmpo

__all__ = ["GMPO"]

LogClip = Annotated[
    float,
    Within(0.0, math.inf, "the log-ratio is clipped by it"),
    Usual(0.2, 0.8, "0.4: ratios from e^−0.4 to e^0.4"),
]


@dataclass(frozen=True, kw_only=True)
class GMPO(GroupRelative, PolicyLoss):
    """−A times the geometric mean of the answer's ratios, each clipped to e^±0.4 before it."""

    title: ClassVar[str] = "GMPO"

    eps_low: LogClip = 0.4
    """Log-ratios of bad choices are held above −eps_low: in nats, not in units of the ratio."""
    eps_high: LogClip = 0.4
    """Those of good choices below eps_high."""
    reduction: Reduction = "sequence_mean"
    """Over answers; the mean over tokens is within the exponent."""

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        old, mask = batch.scored.logp_old, batch.scored.rollouts.mask
        clip = {"eps_low": self.eps_low, "eps_high": self.eps_high}
        return gmpo(now["logp"], old, batch.advantages, mask, **clip)

    def clipped(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        low, high = 1 - math.exp(-self.eps_low), math.exp(self.eps_high) - 1
        old, clip = batch.scored.logp_old, {"eps_low": low, "eps_high": high}
        return clip_fraction(now["logp"], old, batch.advantages, **clip)
