"""Rao-Kupper: comparisons in which neither answer need win."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.protocol import Objective, Outcome
from backflip.algorithms.rated import pair_metrics, rate
from backflip.data.batches import ComparisonBatch
from backflip.functional.reductions import weighted_mean
from backflip.functional.reward_losses import rao_kupper, decided_pairs, prompt_mean, tied_pairs

__all__ = ["RaoKupper"]


@dataclass(frozen=True, kw_only=True)
class RaoKupper(Objective):
    """A tie is a difference too small to see

    Averaged over all pairs of each prompt, decided and tied.
    """

    theta: float = 1.5
    """ P(i beats j) = σ(s_i − s_j − log θ) (Rao & Kupper, 1967).:θ ≥ 1; at 1 there are no ties and this is Bradley-Terry."""

    def counts(self, batch: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        return {"preference": batch.weight.sum()}

    def loss(self, model: Any, batch: ComparisonBatch) -> Outcome:
        rated = rate(model, batch)
        decided, tied = decided_pairs(rated.rank, rated.prompt), tied_pairs(rated.rank, rated.prompt)
        first = torch.cat([decided.better, tied.better])
        second = torch.cat([decided.worse, tied.worse])
        tie = torch.arange(len(first), device=first.device) >= len(decided.better)
        delta = rated.scores[first] - rated.scores[second]
        per_pair = rao_kupper(delta, tie, theta=self.theta)
        prompt = torch.cat([decided.prompt, tied.prompt])
        per_prompt = prompt_mean(per_pair, prompt, prompts=len(batch))
        preference = weighted_mean(per_prompt, batch.weight.to(per_prompt.device))
        metrics = pair_metrics(rated) | {"loss": preference.detached()}
        return Outcome({"preference": preference}, metrics)
