"""On-policy distillation: a teacher grades each token of the policy's own answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from backflip.algorithms.online.on_policy import OnPolicy
from backflip.data.batches import Experience, Scored

__all__ = ["OnPolicyDistillation"]


@dataclass(frozen=True, kw_only=True)
class OnPolicyDistillation(OnPolicy):
    """Advantage of a token = its own reward, log teacher − log π: the reverse KL, token by token.

    (Gu et al., 2024, MiniLLM; Agarwal et al., 2024; Lu, "On-Policy Distillation", 2025: no
    discounted future.) ``reward={name: teacher, model: …}`` gives such rewards.
    """

    title: ClassVar[str] = "On-policy distillation"
    of_tokens: ClassVar[bool] = True

    def credit(self, scored: Scored) -> Experience:
        advantages = torch.where(scored.rollouts.mask, self.rewards(scored), 0.0)
        return Experience(scored, advantages, torch.zeros_like(advantages))
