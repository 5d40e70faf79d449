"""DPPO: a trust region in probabilities, not in ratios (Qi et al., 2026)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.policy_loss import PolicyLoss
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.functional.policy_variants import beyond_trust, dppo

__all__ = ["DPPO"]

USUAL_DELTA = {"tv": 0.15, "kl": 0.05}
"""Thresholds of the authors' code."""


@dataclass(frozen=True, kw_only=True)
class DPPO(GroupRelative, PolicyLoss):
    """REINFORCE by the ratio, but for choices that have moved too far from whoever drew them.

    Far is a divergence between choosing the token and not: likely tokens are held, where PPO's
    ratio lets them fall, and unlikely ones may grow. The ratio is to the sampler itself, so that no
    correction of it applies.
    """

    title: ClassVar[str] = "DPPO"
    corrects_sampler: ClassVar[bool] = True

    divergence: Literal["tv", "kl"] = "tv"
    """|π − μ| of the choice, or KL(μ‖π) between the choice and all others."""
    delta: Annotated[
        float | None,
        Within(0.0, math.inf, "it is a divergence", open=True),
        Usual(0.05, 0.2, "0.15 (tv), 0.05 (kl)"),
    ] = None
    """Divergence beyond which a choice learns nothing more; None: 0.15 for tv, 0.05 for kl."""
    cap: Annotated[
        float,
        Within(1.0, math.inf, "below 1 it would scale every choice down"),
        Usual(5.0, 20.0, "10 to 20"),
    ] = 20.0
    """Greatest weight of a choice."""

    @property
    def threshold(self) -> float:
        return USUAL_DELTA[self.divergence] if self.delta is None else self.delta

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        drawn, trust = batch.scored.rollouts.logp, {"delta": self.threshold, "cap": self.cap}
        return dppo(now["logp"], drawn, batch.advantages, divergence=self.divergence, **trust)

    def clipped(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        drawn, delta = batch.scored.rollouts.logp, self.threshold
        far = beyond_trust(
            now["logp"], drawn, batch.advantages, delta=delta, divergence=self.divergence
        )
        return (far & (batch.advantages != 0)).to(drawn.dtype)
