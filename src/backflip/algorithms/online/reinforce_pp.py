"""REINFORCE++: advantages whitened over the whole batch (Hu et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.policy_loss import AsymmetricClip
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import returns_to_go, whiten

__all__ = ["ReinforcePP"]


@dataclass(frozen=True, kw_only=True)
class ReinforcePP(AsymmetricClip):
    """Advantage of a token = reward − β·Σ of the KL from there on, whitened over the batch.

    (2501.03262, eq. 8 to 10.) Needs no siblings. Mean and deviation are over tokens, as the paper
    has it, so that long answers weigh more in both.
    """

    title: ClassVar[str] = "REINFORCE++"

    kl_coef: KLCoef = 0.01
    """β, the price of a nat of KL from the reference, in units of reward."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where it is paid: taken off the reward of each choice, or a term beside the surrogate."""
    kl_kind: Literal["k1", "k2", "k3"] = "k1"
    """Its estimate: k1 in the reward, k2 or k3 in the loss."""

    def credit(self, scored: Scored) -> Experience:
        mask = scored.rollouts.mask
        advantages = whiten(returns_to_go(self.rewards(scored), mask), mask)
        return Experience(scored, advantages, torch.zeros_like(advantages))
