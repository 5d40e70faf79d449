"""Batches of offline learning, with the log-probabilities that a reference policy stated."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from backflip.data.batches import ComparisonBatch, LabelledBatch, TokenSteps
from backflip.data.ragged import Ragged, TensorRecord

__all__ = ["ReferencedComparisons", "ReferencedLabels"]


@dataclass(frozen=True)
class ReferencedComparisons(TensorRecord):
    """Comparisons whose answers a reference policy has stated the log-probability of."""

    comparisons: ComparisonBatch
    logp_ref: Ragged[Tensor]
    """Float, one per answer: Σ over its own tokens, in nats."""

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.comparisons.sequences()


@dataclass(frozen=True)
class ReferencedLabels(TensorRecord):
    """Labelled answers whose log-probability a reference policy has stated."""

    labelled: LabelledBatch
    logp_ref: Float[Tensor, " B"]
    """Σ over the answer's own tokens, in nats."""
    mismatched_ref: Float[Tensor, " B"]
    """The same for the mismatched answer."""
    kl: Float[Tensor, " B"]
    """KL(π‖ref) in nats an answer, one number for the whole batch, repeated: stamped by the
    objective before the batch is cut, 0 until then."""

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.labelled.sequences()
