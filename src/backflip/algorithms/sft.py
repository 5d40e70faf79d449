"""Supervised fine-tuning: imitate the assistant's own tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.data.batches import DemonstrationBatch
from backflip.functional.reductions import weighted_mean

__all__ = ["SFT"]


@dataclass(frozen=True, kw_only=True)
class SFT(Objective):
    """Mean negative log-likelihood of the assistant's tokens, in nats a token.

    Every token of the whole optimiser step weighs the same, however the step is cut.
    """

    coef: float = 1.0
    """Weight of the term: 1 alone, γ as InstructGPT's pretraining mix beside PPO (eq. 2)."""

    def counts(self, batch: DemonstrationBatch) -> Mapping[str, Float[Tensor, ""]]:
        return {"nll": (batch.mask * batch.weight[:, None]).sum()}

    def loss(self, model: Any, batch: DemonstrationBatch) -> Outcome:
        logp = model.evaluate(batch.steps)["logp"]
        weight = (batch.mask * batch.weight[:, None]).to(logp.device)
        nll = weighted_mean(-logp, weight)
        return Outcome({"nll": nll.scaled(self.coef)}, {"loss": nll.detached()})
