"""Bradley-Terry: the better answer scores higher, all pairs of a prompt together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.algorithms.ranges import Usual, Within
from backflip.algorithms.reward.base import pair_metrics, prompts_with_a_winner, rate
from backflip.data.batches import ComparisonBatch
from backflip.functional.reductions import weighted_mean
from backflip.functional.reward_losses import bradley_terry, centering, decided_pairs, prompt_mean

__all__ = ["BradleyTerry"]


@dataclass(frozen=True, kw_only=True)
class BradleyTerry(Objective):
    """−log σ(s_better − s_worse − margin), averaged over the C(K, 2) pairs of each prompt.

    InstructGPT's eq. 1 for K answers, Llama 2's margin, soft labels as cross-entropy. Tied pairs
    say nothing here: RaoKupper and Davidson learn from them.
    """

    title: ClassVar[str] = "Bradley-Terry"
    centering_coef: Annotated[
        float,
        Within(0.0, math.inf, "it weighs a loss"),
        Usual(0.0, 0.1, "0.01 (Eisenstein et al., 2023)"),
    ] = 0.0
    """Weight of (s_better + s_worse)², which keeps scores around zero (Eisenstein, 2023: 0.01)."""

    def counts(self, batch: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        decided = (prompts_with_a_winner(batch) * batch.weight).sum()
        return {"preference": decided, "centering": decided}

    def loss(self, model: Any, batch: ComparisonBatch) -> Outcome:
        rated = rate(model, batch)
        pairs = decided_pairs(rated.rank, rated.prompt)
        better, worse = rated.scores[pairs.better], rated.scores[pairs.worse]
        on = rated.scores.device
        margin, soft = batch.margin.to(on)[pairs.prompt], batch.soft.to(on)[pairs.prompt]
        weight = (prompts_with_a_winner(batch) * batch.weight).to(on)

        def mean_over_prompts(per_pair: Float[Tensor, " P"]) -> Float[Tensor, " B"]:
            return prompt_mean(per_pair, pairs.prompt, prompts=len(batch))

        preference = weighted_mean(
            mean_over_prompts(bradley_terry(better - worse, margin, soft)), weight
        )
        centre = weighted_mean(mean_over_prompts(centering(better, worse)), weight)
        losses = {"preference": preference}
        if self.centering_coef:
            losses["centering"] = centre.scaled(self.centering_coef)
        return Outcome(losses, pair_metrics(rated) | {"loss": preference.detached()})
