"""Steps of solutions: losses of their labels, and the scores that are made of their estimates.

Classes are bad, neutral and good, in this order. A step is read where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor

__all__ = ["AGGREGATES", "Aggregate", "aggregated", "first_error", "goodness", "step_loss"]

Aggregate = Literal["min", "product", "last"]
AGGREGATES: tuple[Aggregate, ...] = ("min", "product", "last")
"""Ways in which the estimates of steps become the score of a solution."""


def step_loss(
    logits: Float[Tensor, "n heads"], labels: Float[Tensor, "n 3"], *, neutral: float
) -> Float[Tensor, " n"]:
    """−Σ P(class) log p(class) of each step.

    With three heads over bad, neutral and good (Lightman et al., 2023); with one head over bad and
    good alone, hard or soft (Math-Shepherd: Wang et al., 2024, eq. 2), where a neutral step is good
    with probability ``neutral``.
    """
    if logits.shape[1] == 3:
        return -(labels * logits.log_softmax(-1)).sum(-1)
    good = labels[:, 2] + neutral * labels[:, 1]
    return nnf.binary_cross_entropy_with_logits(logits[:, 0], good, reduction="none")


def goodness(logits: Float[Tensor, "n heads"], *, neutral: float) -> Float[Tensor, " n"]:
    """P(each step is good), a neutral one counting ``neutral``; a single head says it itself."""
    if logits.shape[1] == 1:
        return logits[:, 0].sigmoid()
    _, middle, good = logits.softmax(-1).unbind(-1)
    return good + neutral * middle


def aggregated(good: Sequence[float], how: Aggregate) -> float:
    """The score of a solution by P(good) of its steps.

    ``product``: P(all are good) if they were independent; ``min``: the weakest step (both Lightman
    et al., 2023, who take the product); ``last``: the step that ends the solution, as an outcome
    reward model reads it. Raises ValueError for a solution without steps.
    """
    if not good:
        raise ValueError("a solution without steps has no score")
    if how == "product":
        return float(torch.tensor(good, dtype=torch.float64).prod())
    return float(good[-1]) if how == "last" else float(min(good))


def first_error(good: Sequence[float], threshold: float = 0.5) -> int | None:
    """The first step whose P(good) is below ``threshold``; None where there is none."""
    return next((place for place, p in enumerate(good) if p < threshold), None)
