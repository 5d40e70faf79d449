"""How per-token losses become one number. Only the learner divides; see Loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A mean that nobody has divided yet.

    Sum ``total`` and ``count`` over micro-batches and ranks, divide once, and the result does not
    depend on how the batch was cut. Metrics travel in the same form.
    """

    total: Float[Tensor, ""]
    """Σ of the losses in this piece of the batch."""
    count: Float[Tensor, ""]
    """The divisor of the Σ over all pieces."""

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.total + other.total, self.count + other.count)

    def scaled(self, weight: float) -> Loss:
        """Weigh this term in a sum of several; the denominator stays."""
        return Loss(self.total * weight, self.count)

    def detached(self) -> Loss:
        """The same numbers without a graph: what a metric keeps."""
        return Loss(self.total.detach(), self.count.detach())

    def mean(self) -> float:
        """The quotient; 0 where there was nothing to count."""
        return float(self.total / self.count) if float(self.count) else 0.0


def row_mean(x: Float[Tensor, " B"]) -> Loss:
    """Every row weighs the same: pairs, prompts, whole answers."""
    return Loss(x.sum(), x.new_tensor(float(len(x))))


def weighted_mean(x: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"]) -> Loss:
    """Rows weigh what they are said to weigh."""
    return Loss((x * weight).sum(), weight.sum())


def token_mean(x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Loss:
    """Every token weighs the same, so long answers weigh more (DAPO: Yu et al., 2025)."""
    return Loss(torch.where(mask, x, 0.0).sum(), mask.sum().to(x.dtype))


def sequence_mean(x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Loss:
    """Every answer weighs the same, so tokens of long answers weigh less (GRPO)."""
    length = mask.sum(-1)
    per_answer = torch.where(mask, x, 0.0).sum(-1) / length.clamp(min=1)
    return Loss(per_answer.sum(), (length > 0).sum().to(x.dtype))


def sequence_sum(x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, length: int = 1) -> Loss:
    """Every answer counts once and every token in full (RLOO); over ``length`` for Dr. GRPO."""
    return Loss(torch.where(mask, x, 0.0).sum() / length, x.new_tensor(float(len(x))))
