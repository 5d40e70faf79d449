"""GDPO: several rewards, each normalised by itself (Liu et al., 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import OverSiblings
from backflip.algorithms.online.policy_loss import AsymmetricClip, Reduction
from backflip.data.batches import Scored
from backflip.functional.group_credit import normalised_sum

__all__ = ["GDPO"]


@dataclass(frozen=True, kw_only=True)
class GDPO(OverSiblings, AsymmetricClip):
    """Each reward of a mix is normalised over the siblings, then weighted, summed and whitened.

    (2601.05242.) The weights are those of the mix. Shaping counts as one reward more, of weight 1.
    With one reward this is GRPO, whitened over the batch.
    """

    title: ClassVar[str] = "GDPO"

    reduction: Reduction = "sequence_mean"
    """Within each answer, then over answers; or over all tokens of the batch (``token_mean``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_kl_in_loss("normalises rewards one by one")

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        weights = scored.terms.new_tensor(scored.weights)
        return normalised_sum(scored.terms, scored.rollouts.group, weights=weights)
