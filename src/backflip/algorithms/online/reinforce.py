"""REINFORCE with a baseline that needs no model (Williams, 1992)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import WholeAnswer
from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.on_policy import OnPolicy
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Scored
from backflip.functional.group_credit import group_centred, spread

__all__ = ["REINFORCE"]


@dataclass(frozen=True, kw_only=True)
class REINFORCE(WholeAnswer, OnPolicy):
    """Advantage = reward − mean of the batch, or of the steps before; the loss is −A·log π.

    One answer to a prompt is enough. The KL is paid in the reward, as in RLHF (Ahmadian et al.,
    2024).
    """

    title: ClassVar[str] = "REINFORCE"

    baseline: Literal["batch", "moving", "none"] = "batch"
    """Rewards that are expected: the mean of the batch, the moving average over earlier batches
    (Williams, 1992), or 0."""
    divide_by_std: bool = False
    """Divide by the deviation of the batch's rewards; with ``batch`` the advantages are whitened.
    Rewards that are all the same stay undivided."""
    decay: Annotated[
        float, Within(0.0, 1.0, "it weighs an average", open=True), Usual(0.9, 0.99, "0.9 to 0.99")
    ] = 0.95
    """Weight of the past in the moving average."""
    expected: float | None = None
    """The moving average so far, which moves while the policy learns; None starts it with the
    first batch's mean."""
    kl_coef: KLCoef = 0.05
    """β, the price of a nat of KL from the reference, in units of reward."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where it is paid: taken off the reward of each choice, or a term beside the surrogate."""
    kl_kind: Literal["k1", "k2", "k3"] = "k1"
    """Its estimate: k1 in the reward, k2 or k3 in the loss."""

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        scores, together = self.scores(scored), torch.zeros_like(scored.rollouts.group)
        advantages = scores
        if self.baseline == "moving" and self.expected is not None:
            advantages = scores - self.expected
        elif self.baseline != "none":
            advantages = group_centred(scores, together)
        return advantages / spread(scores, together) if self.divide_by_std else advantages

    def adapted(self, metrics: Mapping[str, float]) -> REINFORCE:
        if self.baseline != "moving":
            return self
        new = metrics["reward"] - (self.kl_coef * metrics["kl"] if self.kl_in == "reward" else 0.0)
        old = new if self.expected is None else self.expected
        return dataclasses.replace(self, expected=self.decay * old + (1 - self.decay) * new)
