"""A teacher as the source of reward: how much likelier each token is to it than to the policy."""

from __future__ import annotations

from typing import Any

import torch

from backflip.data.batches import Rollouts
from backflip.distributed.reading import evaluate_all
from backflip.reward.protocol import Judgement

__all__ = ["Teacher"]


class Teacher:
    """log teacher − log π of each token, in nats; their sum is the score of an answer.

    The mean score is −KL(π‖teacher) of answers of the policy, which is 0 at best (MiniLLM: Gu et
    al., 2024). log π is the sampler's own.
    """

    def __init__(self, model: Any, *, token_budget: int) -> None:
        """``model``: a policy with the tokens, and the temperature, of the one that it grades."""
        self.model, self.token_budget = model, token_budget

    def __call__(self, rollouts: Rollouts) -> Judgement:
        logp = evaluate_all(self.model, rollouts, {"logp"}, self.token_budget)["logp"]
        steps = torch.where(rollouts.mask, logp - rollouts.logp, 0.0)
        return Judgement(steps.sum(-1), steps=steps, ends=rollouts.mask)
