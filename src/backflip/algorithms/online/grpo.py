"""GRPO: an answer is as good as it is better than its siblings (Shao et al., 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import OnlineAlgorithm, Outcome
from backflip.algorithms.online.terms import surrogate, watched
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import group_relative
from backflip.functional.kl import kl_k3
from backflip.functional.reductions import sequence_mean

__all__ = ["GRPO"]

Clip = Annotated[
    float, Within(0.0, 1.0, "the ratio is clipped by it"), Usual(0.1, 0.3, "0.2 (0.28 above: DAPO)")
]


@dataclass(frozen=True, kw_only=True)
class GRPO(OnlineAlgorithm):
    """Advantage = (reward − mean of the siblings) / their deviation; the KL stands in the loss.

    The clipped surrogate and k3 are averaged within each answer, then over answers (eq. 3), so that
    tokens of long answers weigh less; there is no critic. Answers that all score the same teach
    nothing but the leash.
    """

    title: ClassVar[str] = "GRPO"

    eps_low: Clip = 0.2
    """A ratio of new to old probability gains nothing below 1 − eps_low."""
    eps_high: Clip = 0.2
    """Nor above 1 + eps_high."""
    kl_coef: Annotated[
        float,
        Within(0.0, math.inf, "below 0 it would pay for leaving the reference"),
        Usual(0.0, 0.1, "0.04 (Shao et al., 2024), 0 (DAPO)"),
    ] = 0.04
    """β, the weight of KL(π‖reference) in nats a token, beside the surrogate."""
    divide_by_std: bool = True
    """Divide by the deviation of the siblings; without, advantages are Dr. GRPO's."""

    def faults(self, answers: int, where: str) -> Iterator[str]:
        if answers < 2:
            yield (
                f"{where} is {answers}: GRPO compares an answer with others to its prompt. "
                f"Set {where}=8."
            )

    def credit(self, scored: Scored) -> Experience:
        r = scored.rollouts
        relative = group_relative(scored.total(), r.group, divide_by_std=self.divide_by_std)
        advantages = torch.where(r.mask, relative[:, None], 0.0)
        return Experience(scored, advantages, torch.zeros_like(advantages))

    def counts(self, batch: Experience) -> Mapping[str, Float[Tensor, ""]]:
        return {"policy": batch.scored.rollouts.mask.any(-1).sum().float()}

    def loss(self, model: Any, batch: Experience) -> Outcome:
        """The clipped surrogate and the KL to the reference, each answer weighing the same."""
        s, mask = batch.scored, batch.scored.rollouts.mask
        now = model.evaluate(s.rollouts.steps, {"logp", "entropy"})
        per_token = surrogate(now, batch, self.eps_low, self.eps_high)
        per_token = per_token + self.kl_coef * kl_k3(now["logp"], s.logp_ref)
        policy = sequence_mean(per_token, mask)
        return Outcome({"policy": policy}, watched(now, batch, policy, self.eps_low, self.eps_high))
