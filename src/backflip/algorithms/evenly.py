"""Rows that are weighed against each other over the whole data, divided by their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.data.batches import ComparisonBatch
from backflip.functional.reductions import Loss

__all__ = ["EvenlyDivided"]


@dataclass(frozen=True, kw_only=True)
class EvenlyDivided(Objective):
    """``objective`` with its rows' weights in the sum and their number below it.

    A mean that is weighed within each batch is not the weighed mean of the data: a batch without
    heavy rows lifts its light ones, and the side that the weights are to hold down gets more than
    its share. With weights of mean 1 over the data, this divisor has steps add up to that mean.
    """

    title: ClassVar[str] = "evenly divided"
    objective: Objective

    def counts(self, batch: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        return self.objective.counts(replace(batch, weight=torch.ones_like(batch.weight)))

    def loss(self, model: Any, batch: ComparisonBatch) -> Outcome:
        outcome, counts = self.objective.loss(model, batch), self.counts(batch)
        losses = {
            name: Loss(loss.total, counts[name].to(loss.total.device))
            for name, loss in outcome.losses.items()
        }
        return Outcome(losses, outcome.metrics)
