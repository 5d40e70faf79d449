"""RLOO: an answer is as good as it beats the mean of the others (Ahmadian et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import OverSiblings
from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.policy_loss import PolicyLoss, Reduction
from backflip.data.batches import Experience, Scored
from backflip.functional.group_credit import leave_one_out
from backflip.functional.kl import ratio

__all__ = ["RLOO"]


@dataclass(frozen=True, kw_only=True)
class RLOO(OverSiblings, PolicyLoss):
    """Advantage = reward − mean of the k − 1 siblings; the whole answer is one action.

    Its ratio is the product over all tokens, neither clipped nor divided by the length, so that the
    first step on fresh answers is REINFORCE's. The KL of the whole answer is taken off its reward.
    """

    title: ClassVar[str] = "RLOO"

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

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        return leave_one_out(self.scores(scored), scored.rollouts.group)

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        """−A · π/π_old of the whole answer, shared out evenly over its tokens."""
        s, mask = batch.scored, batch.scored.rollouts.mask
        new, old = (torch.where(mask, logp, 0.0).sum(-1) for logp in (now["logp"], s.logp_old))
        each = ratio(new, old) / mask.sum(-1).clamp(min=1)
        return -batch.advantages * each[:, None]
