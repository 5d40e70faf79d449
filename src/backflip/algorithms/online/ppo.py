"""Proximal policy optimisation under a KL leash (Schulman, 2017; Ziegler, 2019; Ouyang, 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from backflip.algorithms.online.surrogate import ClippedSurrogate
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import step_gae, whiten

__all__ = ["PPO"]


@dataclass(frozen=True, kw_only=True)
class PPO(ClippedSurrogate):
    """Every token is a choice; its advantage comes from a value function by GAE.

    The reward of a token is its own less kl_coef·(log π − log π_ref), unless the KL stands in the
    loss; a score of the whole answer stands on the last one. Where values stand at lines or
    sentences alone, each of these is one choice, whose tokens share its advantage (VinePPO).
    """

    title: ClassVar[str] = "PPO"
    gamma: Annotated[
        float, Within(0.0, 1.0, "it is a discount"), Usual(0.99, 1.0, "1: answers end")
    ] = 1.0
    """Discount of a reward for each token that lies between; 1 does not discount."""
    lam: Annotated[
        float,
        Within(0.0, 1.0, "it weighs returns of different lengths"),
        Usual(0.9, 1.0, "0.95"),
    ] = 0.95
    """λ of GAE: 1 trusts what happened, 0 trusts the value function."""
    whiten_rewards: bool = False
    """Divide token rewards by their spread over the batch, without moving their mean."""

    def credit(self, scored: Scored) -> Experience:
        s, mask = scored, scored.rollouts.mask
        rewards = self.rewards(s)
        if self.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages = step_gae(rewards, s.values, mask, s.states, gamma=self.gamma, lam=self.lam)
        returns = advantages + s.values
        white = whiten(advantages, mask) if self.whiten_advantages else advantages
        return Experience(scored, white, returns)
