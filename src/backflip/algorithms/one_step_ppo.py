"""PPO with the whole answer as one action: its advantage is reward − V(prompt)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.ppo import surrogate_outcome
from backflip.algorithms.protocol import OnlineAlgorithm, Outcome
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import one_step, whiten
from backflip.functional.kl import kl_k1

__all__ = ["OneStepPPO"]


@dataclass(frozen=True, kw_only=True)
class OneStepPPO(OnlineAlgorithm):
    """The form in which many papers write RLHF down: a bandit over answers.

    The reward of an answer is score − kl_coef·Σ(log π − log π_ref); every token shares the
    advantage reward − V(prompt). No λ, no γ; the critic learns V(prompt) at every position.
    """

    needs_values: ClassVar[bool] = True

    epochs: int = 4
    eps: float = 0.2
    """A ratio of new to old probability gains nothing beyond 1 ± eps."""
    kl_coef: float = 0.05
    """Price of one nat of KL from the reference, in units of reward."""
    whiten_advantages: bool = True
    """Give the advantages of a batch mean 0 and deviation 1."""
    entropy_coef: float = 0.0
    """Reward of one nat of entropy, in the loss."""
    vf_coef: float = 0.0
    """Weight of the value loss of a policy with a value head of its own; 0 beside a critic."""
    value_eps: float = 0.2
    """A value gains nothing by moving further than this from what it was."""

    def credit(self, scored: Scored) -> Experience:
        s, mask = scored, scored.rollouts.mask
        divergence = torch.where(mask, kl_k1(s.logp_old, s.logp_ref), 0.0).sum(-1)
        reward = s.scores - self.kl_coef * divergence
        advantages = one_step(reward, s.values, mask)
        returns = torch.where(mask, reward[:, None], 0.0)
        white = whiten(advantages, mask) if self.whiten_advantages else advantages
        return Experience(scored, white, returns)

    def counts(self, batch: Experience) -> Mapping[str, Float[Tensor, ""]]:
        tokens = batch.scored.rollouts.mask.sum().float()
        return {"policy": tokens, "entropy": tokens, "value": tokens}

    def loss(self, model: Any, batch: Experience) -> Outcome:
        return surrogate_outcome(self, model, batch)
