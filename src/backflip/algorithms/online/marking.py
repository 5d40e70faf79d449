"""Choices that are picked out of a whole batch, before it is cut into micro-batches."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.algorithms.ranges import Within
from backflip.data.batches import Experience
from backflip.distributed.reading import evaluate_all

__all__ = ["Share", "highest", "reading"]

Share = Annotated[float, Within(0.0, 1.0, "it is a share of the choices", open=True)]


def reading(model: Any, batch: Experience, name: str, token_budget: int) -> Float[Tensor, "B T"]:
    """A number of each choice under the present policy: one more reading of the batch."""
    return evaluate_all(model, batch, {name}, token_budget)[name]


def highest(
    x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, share: float
) -> Bool[Tensor, "B T"]:
    """The choices with the highest ``share`` of numbers, at least one; ties stand in order."""
    count = min(max(round(share * int(mask.sum())), 1), int(mask.sum()))
    order = torch.where(mask, x, -torch.inf).flatten().argsort(descending=True, stable=True)
    picked = torch.zeros(x.numel(), dtype=torch.bool)
    picked[order[:count]] = True
    return picked.view(x.shape)
