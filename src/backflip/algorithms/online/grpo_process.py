"""GRPO with rewards of steps (Shao et al., 2024, §4.1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from backflip.algorithms.online.group_relative import Siblings
from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.policy_loss import AsymmetricClip, Reduction
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import returns_to_go
from backflip.functional.group_credit import step_relative

__all__ = ["ProcessGRPO"]


@dataclass(frozen=True, kw_only=True)
class ProcessGRPO(Siblings, AsymmetricClip):
    """Rewards of steps, normalised over all steps of the group; a token has those still to come.

    The advantage of a token is the sum of the normalised rewards of the steps that end at it or
    later. With one reward at the end of each answer this is GRPO.
    """

    title: ClassVar[str] = "GRPO with rewards of steps"

    kl_coef: KLCoef = 0.04
    """β, the weight of KL(π‖reference) in nats a token, beside the surrogate."""
    reduction: Reduction = "sequence_mean"
    """Within each answer, then over answers; or over all tokens of the batch (``token_mean``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_kl_in_loss("normalises rewards one by one")

    def credit(self, scored: Scored) -> Experience:
        r = scored.rollouts
        relative = step_relative(scored.rewards, scored.ends & r.mask, r.group)
        advantages = returns_to_go(relative, r.mask)
        return Experience(scored, advantages, torch.zeros_like(advantages))
