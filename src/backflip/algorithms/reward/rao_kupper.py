"""Rao-Kupper: comparisons in which neither answer need win."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.algorithms.ranges import Within
from backflip.algorithms.reward.base import pairs_with_ties, preference, rate
from backflip.data.batches import ComparisonBatch
from backflip.functional.reward_losses import prompt_mean, rao_kupper

__all__ = ["RaoKupper"]


@dataclass(frozen=True, kw_only=True)
class RaoKupper(Objective):
    """A tie is a difference too small to see: P(i beats j) = σ(s_i − s_j − log θ).

    Rao & Kupper (1967); averaged over all pairs of each prompt, decided and tied.
    """

    title: ClassVar[str] = "Rao-Kupper"
    theta: Annotated[float, Within(1.0, math.inf, "at 1 there are no ties")] = 1.5
    """θ ≥ 1; at 1 there are no ties and this is Bradley-Terry."""

    def counts(self, batch: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        return {"preference": batch.weight.sum()}

    def loss(self, model: Any, batch: ComparisonBatch) -> Outcome:
        rated = rate(model, batch)
        pairs = pairs_with_ties(rated)
        per_pair = rao_kupper(pairs.delta, pairs.tie, theta=self.theta)
        per_prompt = prompt_mean(per_pair, pairs.prompt, prompts=len(batch))
        return preference(rated, per_prompt, batch.weight)
