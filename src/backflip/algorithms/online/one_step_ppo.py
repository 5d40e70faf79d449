"""PPO with the whole answer as one action: its advantage is reward − V(prompt)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from backflip.algorithms.online.surrogate import ClippedSurrogate
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import one_step, whiten

__all__ = ["OneStepPPO"]


@dataclass(frozen=True, kw_only=True)
class OneStepPPO(ClippedSurrogate):
    """The form in which many papers write RLHF down: a bandit over answers.

    The reward of an answer is score − kl_coef·Σ(log π − log π_ref); every token shares the
    advantage reward − V(prompt). No λ, no γ; the critic learns V(prompt) at every position.
    """

    title: ClassVar[str] = "One-step PPO"

    def credit(self, scored: Scored) -> Experience:
        s, mask = scored, scored.rollouts.mask
        reward = self.scores(s)
        advantages = one_step(reward, s.values, mask)
        returns = torch.where(mask, reward[:, None], 0.0)
        white = whiten(advantages, mask) if self.whiten_advantages else advantages
        return Experience(scored, white, returns)
