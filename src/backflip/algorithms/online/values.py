"""The loss of a value function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.data.batches import Experience
from backflip.functional.reductions import token_mean
from backflip.functional.value_losses import clipped_value_loss

__all__ = ["ValueLoss"]


@dataclass(frozen=True, kw_only=True)
class ValueLoss(Objective):
    """½ max of the squared error and that of the clipped value: what a critic learns from."""

    value_eps: float = 0.2
    """A value gains nothing by moving further than this from what it was."""

    def counts(self, batch: Experience) -> Mapping[str, Float[Tensor, ""]]:
        return {"value": batch.scored.rollouts.mask.sum().float()}

    def loss(self, model: Any, batch: Experience) -> Outcome:
        s = batch.scored
        values = model.values(s.rollouts.steps)
        error = clipped_value_loss(values, s.values, batch.returns, eps=self.value_eps)
        loss = token_mean(error, s.rollouts.mask)
        return Outcome({"value": loss}, {"value_loss": loss.detached()})
