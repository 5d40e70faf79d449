"""Davidson: comparisons in which neither answer need win."""

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
from backflip.functional.reward_losses import davidson, prompt_mean

__all__ = ["Davidson"]


@dataclass(frozen=True, kw_only=True)
class Davidson(Objective):
    """A tie is likelier the closer the answers: P(tie) ∝ ν·√(p_i p_j).

    Davidson (1970); averaged over all pairs of each prompt, decided and tied.
    """

    title: ClassVar[str] = "Davidson"
    nu: Annotated[float, Within(0.0, math.inf, "at 0 there are no ties")] = 0.5
    """ν ≥ 0; at 0 there are no ties and this is Bradley-Terry."""

    def counts(self, batch: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        return {"preference": batch.weight.sum()}

    def loss(self, model: Any, batch: ComparisonBatch) -> Outcome:
        rated = rate(model, batch)
        pairs = pairs_with_ties(rated)
        per_pair = davidson(pairs.delta, pairs.tie, nu=self.nu)
        per_prompt = prompt_mean(per_pair, pairs.prompt, prompts=len(batch))
        return preference(rated, per_prompt, batch.weight)
