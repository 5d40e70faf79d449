"""Rao-Kupper-DPO: comparisons in which neither answer need win."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.base import ComparedLogps, DirectObjective
from backflip.algorithms.ranges import Within
from backflip.algorithms.reward.base import Rated, pairs_with_ties
from backflip.data.batches import ComparisonBatch
from backflip.functional.reward_losses import prompt_mean, rao_kupper

__all__ = ["RaoKupperDPO"]


@dataclass(frozen=True, kw_only=True)
class RaoKupperDPO(DirectObjective):
    """DPO where a tie is a difference too small to see: P(i beats j) = σ(r_i − r_j − log θ).

    Rao & Kupper (1967) on implicit rewards β·log π/π_ref (DPO-RK: Chen et al., 2024, with ν_RK for
    this θ); averaged over all pairs of a prompt, decided and tied.
    """

    title: ClassVar[str] = "Rao-Kupper DPO"
    learns_ties: ClassVar[bool] = True
    theta: Annotated[float, Within(1.0, math.inf, "at 1 there are no ties")] = 3.0
    """θ ≥ 1; at 1 there are no ties and this is DPO. The paper's: equals tie half of the time."""

    def per_prompt(self, told: ComparedLogps, batch: ComparisonBatch) -> Float[Tensor, " B"]:
        pairs = pairs_with_ties(Rated(self.reward(told), told.rank, told.prompt))
        per_pair = rao_kupper(pairs.delta, pairs.tie, theta=self.theta)
        return prompt_mean(per_pair, pairs.prompt, prompts=len(batch))
