"""CISPO: the weight of a choice is capped, its gradient never lost (MiniMax-M1, 2025)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.policy_loss import PolicyLoss
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.functional.kl import ratio
from backflip.functional.policy_variants import cispo

__all__ = ["CISPO"]


@dataclass(frozen=True, kw_only=True)
class CISPO(GroupRelative, PolicyLoss):
    """REINFORCE weighed by the ratio up to a cap, without a lower bound, over all tokens."""

    title: ClassVar[str] = "CISPO"

    cap: Annotated[
        float,
        Within(1.0, math.inf, "below 1 it would scale every choice down"),
        Usual(2.0, 10.0, "4 to 8, 5 by default (ScaleRL: Khatri et al., 2025)"),
    ] = 5.0
    """Greatest weight of a choice: the ratio itself, not its distance from 1."""

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        return cispo(now["logp"], batch.scored.logp_old, batch.advantages, cap=self.cap)

    def clipped(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        """1 where the cap acts; the gradient stays."""
        return (ratio(now["logp"], batch.scored.logp_old) > self.cap).to(now["logp"].dtype)
