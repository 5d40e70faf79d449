"""Davidson-DPO: comparisons in which neither answer need win."""

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
from backflip.functional.reward_losses import davidson, prompt_mean

__all__ = ["DavidsonDPO"]


@dataclass(frozen=True, kw_only=True)
class DavidsonDPO(DirectObjective):
    """DPO where a tie is likelier the closer the implicit rewards: P(tie) ∝ ν.

    Davidson (1970) on implicit rewards β·log π/π_ref (DPO-D: Chen et al., 2024, whose ν_D is half
    of this ν); averaged over all pairs of a prompt, decided and tied.
    """

    title: ClassVar[str] = "Davidson DPO"
    learns_ties: ClassVar[bool] = True
    nu: Annotated[float, Within(0.0, math.inf, "at 0 there are no ties")] = 2.0
    """ν ≥ 0; at 0 there are no ties and this is DPO. The paper's: equals tie half of the time."""

    def per_prompt(self, told: ComparedLogps, batch: ComparisonBatch) -> Float[Tensor, " B"]:
        pairs = pairs_with_ties(Rated(self.reward(told), told.rank, told.prompt))
        per_pair = davidson(pairs.delta, pairs.tie, nu=self.nu)
        return prompt_mean(per_pair, pairs.prompt, prompts=len(batch))
