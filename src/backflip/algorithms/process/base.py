"""Base of the objectives of process reward models: labelled steps with their logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.algorithms.ranges import Within
from backflip.data.solution_batches import SolutionBatch
from backflip.functional.process import goodness, step_loss
from backflip.functional.reductions import Loss, weighted_mean

Neutral = Annotated[float, Within(0.0, 1.0, "it is a probability")]


@dataclass(frozen=True, kw_only=True)
class ProcessObjective(Objective):
    """The mean over all labelled steps of a loss that reads each step where it ends."""

    heads: ClassVar[int]
    """Numbers that the model says of a step."""
    neutral: Neutral = 1.0
    """P(good) that a neutral step counts for; Lightman et al. (2023) count it as good."""

    def counts(self, batch: SolutionBatch) -> Mapping[str, Float[Tensor, ""]]:
        return {"steps": (batch.weight * batch.ends.lengths).sum()}

    def loss(self, model: Any, batch: SolutionBatch) -> Outcome:
        rows = batch.ends.owner()
        logits = model.raw_scores_at(batch.steps, rows, batch.ends.values)
        labels = batch.labels.values.to(logits.device)
        weight = batch.weight[rows].to(logits.device)
        loss = weighted_mean(step_loss(logits, labels, neutral=self.neutral), weight)
        return Outcome({"steps": loss}, self._metrics(logits, labels) | {"loss": loss.detached()})

    @torch.no_grad()
    def _metrics(
        self, logits: Float[Tensor, "n heads"], labels: Float[Tensor, "n 3"]
    ) -> dict[str, Loss]:
        """Accuracy over all steps and over bad ones, and the share of steps that are good."""
        said = goodness(logits, neutral=self.neutral) >= 0.5
        good = labels[:, 2] + self.neutral * labels[:, 1] >= 0.5
        right, n = (said == good).to(logits.dtype), logits.new_tensor(float(len(good)))
        return {
            "accuracy": Loss(right.sum(), n),
            "accuracy_bad": Loss(right[~good].sum(), (~good).sum().to(logits.dtype)),
            "good": Loss(good.to(logits.dtype).sum(), n),
        }
