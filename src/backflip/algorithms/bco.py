"""BCO: the policy as a classifier of good and bad answers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.unpaired import Judged, UnpairedObjective
from backflip.functional.unpaired_losses import bco

__all__ = ["BCO"]


@dataclass(frozen=True, kw_only=True)
class BCO(UnpairedObjective):
    """−log σ(±(β·log π/π_ref − δ)), + for a good answer (Jung et al., 2024, eq. 9).

    δ lies half way between the mean implicit rewards of good and of bad answers, so that the
    classifier is neither sure of everything nor of nothing. Both means run along with the steps;
    a step with answers of one kind only moves only the mean of that kind. The paper's second part,
    density ratios where good and bad answers belong to different prompts, is not computed here:
    bring it as the ``weight`` of the rows.
    """

    shift_decay: float = 0.9
    """Share of both running means that a step keeps; 0 takes the last batch alone."""
    reward_good: float = 0.0
    """Running mean of the implicit reward of good answers; where a new run starts, 0."""
    reward_bad: float = 0.0
    """The same of bad answers."""

    @property
    def shift(self) -> float:
        """δ, in units of the implicit reward."""
        return (self.reward_good + self.reward_bad) / 2

    def per_answer(self, judged: Judged) -> Float[Tensor, " B"]:
        return bco(judged.ratio, judged.label, beta=self.beta, shift=self.shift)

    def origin(self, judged: Judged) -> Float[Tensor, " B"]:
        return torch.full_like(judged.logp_ref, self.shift)

    def adapted(self, metrics: Mapping[str, float]) -> BCO:
        """With both running means moved towards those of the last batch."""
        good = metrics["good"]
        return dataclasses.replace(
            self,
            reward_good=self._moved(self.reward_good, metrics["reward_chosen"], good > 0),
            reward_bad=self._moved(self.reward_bad, metrics["reward_rejected"], good < 1),
        )

    def _moved(self, mean: float, seen: float, any_seen: bool) -> float:
        if not any_seen or not math.isfinite(seen):
            return mean
        return self.shift_decay * mean + (1 - self.shift_decay) * seen
