"""ReMax: the reward of a greedy answer is expected (Li et al., 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.on_policy import OnPolicy
from backflip.algorithms.online.policy_loss import Reduction
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import returns_to_go

__all__ = ["ReMax"]


@dataclass(frozen=True, kw_only=True)
class ReMax(OnPolicy):
    """Advantage = reward to go − reward of the greedy answer to the prompt; the loss is −A·log π.

    The greedy answer costs a second round of sampling, is judged by the same rules
    and is not learnt from. The KL is taken off the reward of each token.
    """

    title: ClassVar[str] = "ReMax"
    values_from: ClassVar[tuple[str, ...]] = ("greedy",)

    kl_coef: KLCoef = 0.05
    """β, the price of a nat of KL from the reference, in units of reward."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where it is paid: taken off the reward of each choice, or a term beside the surrogate."""
    kl_kind: Literal["k1", "k2", "k3"] = "k1"
    """Its estimate: k1 in the reward, k2 or k3 in the loss."""
    reduction: Reduction = "constant"
    """The sum over tokens for each answer, divided by ``length`` and averaged over answers."""
    length: int | None = 1
    """1: the gradient of log π of the whole answer."""

    def credit(self, scored: Scored) -> Experience:
        mask = scored.rollouts.mask
        to_go = returns_to_go(self.rewards(scored), mask)
        advantages = torch.where(mask, to_go - scored.values, 0.0)
        return Experience(scored, advantages, torch.zeros_like(advantages))
