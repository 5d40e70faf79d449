"""KL to the reference in an online algorithm: in the reward or in the loss, and which estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import OnlineAlgorithm
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience, Scored
from backflip.errors import UserError
from backflip.functional.credit import token_rewards
from backflip.functional.kl import answer_kl, kl_k2, kl_k3, kl_k3_unbiased

__all__ = ["KLCoef", "KLPenalty"]

KLCoef = Annotated[
    float,
    Within(0.0, math.inf, "below 0 it would pay for leaving the reference"),
    Usual(0.0, 0.1, "0.04 (GRPO), 0.05 (RLOO), 0.01 (REINFORCE++), 0 (DAPO and later)"),
]


@dataclass(frozen=True, kw_only=True)
class KLPenalty(OnlineAlgorithm):
    """β·KL(π‖reference) as part of the reward of each choice, or as a term of the loss.

    Raises UserError for an estimate whose gradient in that place is not that of a KL.
    """

    kl_coef: KLCoef = 0.0
    """β, the price of a nat of KL from the reference: in units of reward, or of the loss."""
    kl_in: Literal["reward", "loss"] = "loss"
    """Where it is paid: taken off the reward of each choice, or a term beside the surrogate."""
    kl_kind: Literal["k1", "k2", "k3"] = "k3"
    """Its estimate (Schulman, 2020): k1 in the reward; in the loss k2, whose gradient is that of
    KL(π‖reference), or k3, whose gradient is that of KL(reference‖π)."""
    kl_unbiased: bool = False
    """Multiply k3 by the ratio, with its gradient: then that of KL(π‖reference) (DeepSeek-V3.2)."""

    def __post_init__(self) -> None:
        here = f"kl_kind={self.kl_kind}"
        if self.kl_in == "reward" and self.kl_kind != "k1":
            raise UserError(
                f"{here} with kl_in=reward: of the estimates only k1 leads a policy gradient along "
                "that of KL(π‖reference) there. Set kl_kind=k1, or kl_in=loss."
            )
        if self.kl_in == "loss" and self.kl_kind == "k1":
            raise UserError(
                f"{here} with kl_in=loss: the gradient of k1 is 0 on average, so that it would "
                "hold nothing. Set kl_kind=k2 or k3, or kl_in=reward."
            )
        if self.kl_unbiased and self.kl_kind != "k3":
            raise UserError(
                f"{here} with kl_unbiased=true: the ratio corrects the gradient of k3 in the loss, "
                f"that of {self.kl_kind} is KL(π‖reference)'s already. Set kl_unbiased=false."
            )

    def check_kl_in_loss(self, why: str) -> None:
        """Raises UserError where a KL in the reward would be lost: ``why`` that is so."""
        if self.kl_in == "reward":
            raise UserError(
                f"kl_in=reward: {self.title} {why}, so that the KL would be lost. Set kl_in=loss "
                "with kl_kind=k2 or k3."
            )

    def scores(self, scored: Scored) -> Float[Tensor, " B"]:
        """Σ of each answer's rewards, less its KL where that is paid in the reward."""
        if self.kl_in == "loss":
            return scored.total()
        mask = scored.rollouts.mask
        return scored.total() - self.kl_coef * answer_kl(scored.logp_old, scored.logp_ref, mask)

    def rewards(self, scored: Scored) -> Float[Tensor, "B T"]:
        """Reward of each choice, less its KL where that is paid in the reward; 0 elsewhere."""
        coef = self.kl_coef if self.kl_in == "reward" else 0.0
        s = scored
        return token_rewards(s.rewards, s.logp_old, s.logp_ref, s.rollouts.mask, kl_coef=coef)

    def kl_loss(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"] | None:
        """β·KL of each choice as a term of the loss; None where none is paid there."""
        if self.kl_in == "reward" or self.kl_coef == 0:
            return None
        logp, ref = now["logp"], batch.scored.logp_ref
        if self.kl_kind == "k2":
            return self.kl_coef * kl_k2(logp, ref)
        if self.kl_unbiased:
            return self.kl_coef * kl_k3_unbiased(logp, ref, batch.scored.logp_old)
        return self.kl_coef * kl_k3(logp, ref)
