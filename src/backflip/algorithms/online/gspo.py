"""GSPO: ratio and clip are those of the whole answer (Zheng et al., 2025)."""

from __future__ import annotations

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
from backflip.functional.policy_variants import gspo, gspo_token, mean_log_ratio

__all__ = ["GSPO"]

Narrow = Annotated[
    float,
    Within(0.0, 1.0, "the ratio is clipped by it"),
    Usual(1e-4, 1e-3, "3e-4 below and 4e-4 above; at PPO's 0.2 the clip never acts"),
]


@dataclass(frozen=True, kw_only=True)
class GSPO(GroupRelative, PolicyLoss):
    """GRPO clipped by the answer's ratio per token, (π/π_old)^(1/n), to 1 − 3e-4 and 1 + 4e-4."""

    title: ClassVar[str] = "GSPO"

    eps_low: Narrow = 3e-4
    """An answer's ratio per token gains nothing below 1 − eps_low."""
    eps_high: Narrow = 4e-4
    """Nor above 1 + eps_high."""
    token_form: bool = False
    """GSPO-token: the gradient of each choice by its own advantage; the same where they agree."""
    reduction: Reduction = "sequence_mean"
    """Within each answer, then over answers."""

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        old, mask = batch.scored.logp_old, batch.scored.rollouts.mask
        clip = {"eps_low": self.eps_low, "eps_high": self.eps_high}
        form = gspo_token if self.token_form else gspo
        return form(now["logp"], old, batch.advantages, mask, **clip)

    def clipped(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        old, mask = batch.scored.logp_old, batch.scored.rollouts.mask
        log_s = mean_log_ratio(now["logp"], old, mask).expand_as(old)
        clip = {"eps_low": self.eps_low, "eps_high": self.eps_high}
        return clip_fraction(log_s, 0 * log_s, batch.advantages, **clip)
