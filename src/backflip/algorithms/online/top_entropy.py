"""DAPO on the fifth of the tokens whose choice was the most open (Wang et al., 2025)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxtyping import Bool
from torch import Tensor

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.marking import Share, highest, reading
from backflip.algorithms.online.policy_loss import AsymmetricClip, Clip
from backflip.algorithms.ranges import Usual
from backflip.data.batches import Experience

__all__ = ["TopEntropy"]


@dataclass(frozen=True, kw_only=True)
class TopEntropy(GroupRelative, AsymmetricClip):
    """DAPO's loss over the 20 % of the tokens with the highest entropy in the whole batch.

    The rest have no part in the loss, nor in its denominator: the paper's eq. 6 divides by all
    tokens, which is the same up to a factor of ``share``.
    """

    title: ClassVar[str] = "Top-entropy DAPO"

    share: Annotated[Share, Usual(0.1, 0.5, "0.2 (Wang et al., 2025)")] = 0.2
    """Share of the optimiser's batch that is learnt from, by the present policy's entropy."""
    eps_high: Clip = 0.28
    """Above 1 + eps_high a ratio gains nothing (DAPO)."""

    def prepare(self, model: Any, batch: Any, token_budget: int) -> Any:
        mask = super().learnt(batch)
        entropy = reading(model, batch, "entropy", token_budget)
        return dataclasses.replace(batch, marked=highest(entropy, mask, share=self.share))

    def learnt(self, batch: Experience) -> Bool[Tensor, "B T"]:
        return super().learnt(batch) & batch.marked
