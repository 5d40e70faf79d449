"""Clip-Cov: some of the choices that drive entropy down learn nothing (Cui et al., 2025)."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.marking import Share, highest, reading
from backflip.algorithms.online.policy_loss import AsymmetricClip
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.functional.policy_variants import covariance

__all__ = ["ClipCov"]

Covariance = Annotated[float, Within(-math.inf, math.inf, ""), Usual(0.5, 10.0, "1 to 5")]


@dataclass(frozen=True, kw_only=True)
class ClipCov(GroupRelative, AsymmetricClip):
    """The clipped surrogate over all tokens, but for a few between two covariances, at random.

    Covariance of log π and advantage, over the optimiser's whole batch. Choices
    that the clip already holds are not drawn.
    """

    title: ClassVar[str] = "Clip-Cov"

    share: Annotated[Share, Usual(1e-4, 1e-3, "2e-4")] = 2e-4
    """Share of the batch's tokens that lose their gradient; one at least, where any may."""
    cov_low: Covariance = 1.0
    """Covariance above which a choice may be drawn."""
    cov_high: Covariance = 5.0
    """Covariance below which it may."""

    def prepare(self, model: Any, batch: Any, token_budget: int) -> Any:
        mask = self.learnt(batch)
        if not mask.any():
            return batch
        logp = reading(model, batch, "logp", token_budget)
        cov = covariance(logp, batch.advantages, mask)
        free = super().clipped({"logp": logp}, batch) == 0
        eligible = mask & free & (cov > self.cov_low) & (cov < self.cov_high)
        share = self.share * float(mask.sum()) / max(float(eligible.sum()), 1.0)
        drawn = highest(_lots(batch), eligible, share=min(share, 1.0))
        return dataclasses.replace(batch, marked=drawn)

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        return super().surrogate(now, batch) * ~batch.marked

    def clipped(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        return super().clipped(now, batch).maximum(batch.marked.to(now["logp"].dtype))


def _lots(batch: Experience) -> Float[Tensor, "B T"]:
    """A random number for each choice: the same for the same answers, in a resumed run too."""
    said = batch.scored.rollouts.logp.cpu().contiguous().numpy().tobytes()
    return torch.rand(
        batch.advantages.shape, generator=torch.Generator().manual_seed(zlib.crc32(said))
    )
