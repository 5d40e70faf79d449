"""KL-Cov: choices that drive entropy down pay for moving (Cui et al., 2025)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.marking import Share, highest, reading
from backflip.algorithms.online.policy_loss import PolicyLoss
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.functional.kl import ratio
from backflip.functional.policy_variants import covariance

__all__ = ["KLCov"]


@dataclass(frozen=True, kw_only=True)
class KLCov(GroupRelative, PolicyLoss):
    """−r A over all tokens; those with the highest covariance pay |log π − log π_old| beside it.

    Covariance of log π and advantage, over the optimiser's whole batch. There is no clip, as in
    the authors' code.
    """

    title: ClassVar[str] = "KL-Cov"

    share: Annotated[Share, Usual(2e-4, 2e-3, "2e-3 for 7 B, 2e-4 for 32 B parameters")] = 2e-3
    """Share of the batch's tokens that pay; at least one does."""
    cov_coef: Annotated[
        float, Within(0.0, math.inf, "below 0 it would pay for moving"), Usual(0.1, 1.0, "1")
    ] = 1.0
    """Price of a nat of |log π − log π_old|."""

    def prepare(self, model: Any, batch: Any, token_budget: int) -> Any:
        mask = self.learnt(batch)
        if not mask.any():
            return batch
        logp = reading(model, batch, "logp", token_budget)
        cov = covariance(logp, batch.advantages, mask)
        return dataclasses.replace(batch, marked=highest(cov, mask, share=self.share))

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        logp, old = now["logp"], batch.scored.logp_old
        moved = self.cov_coef * (logp - old).abs()
        return moved * batch.marked - ratio(logp, old) * batch.advantages

    def clipped(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        """1 where a choice pays; its gradient stays."""
        return batch.marked.to(now["logp"].dtype)
