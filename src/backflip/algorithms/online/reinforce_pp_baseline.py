"""REINFORCE++ with a baseline over siblings (Hu et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import OverSiblings
from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.policy_loss import AsymmetricClip
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import whiten
from backflip.functional.group_credit import group_centred

__all__ = ["ReinforcePPBaseline"]


@dataclass(frozen=True, kw_only=True)
class ReinforcePPBaseline(OverSiblings, AsymmetricClip):
    """Advantage = reward − mean of the siblings, whitened over the tokens of the whole batch.

    (2501.03262, "w/ baseline".) One deviation for all prompts, where GRPO has one for each; the
    KL stands in the loss as k2.
    """

    title: ClassVar[str] = "REINFORCE++ with a baseline"

    kl_coef: KLCoef = 0.01
    """β, the weight of KL(π‖reference) in nats a token, beside the surrogate."""
    kl_kind: Literal["k1", "k2", "k3"] = "k2"
    """Its estimate: k2, whose gradient is that of KL(π‖reference), or k3; k1 in the reward."""

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        return group_centred(self.scores(scored), scored.rollouts.group)

    def credit(self, scored: Scored) -> Experience:
        mask = scored.rollouts.mask
        advantages = whiten(super().credit(scored).advantages, mask)
        return Experience(scored, advantages, torch.zeros_like(advantages))
