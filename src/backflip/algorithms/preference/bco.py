"""BCO: the policy as a classifier of good and bad answers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.unpaired import LabelledLogps, UnpairedObjective
from backflip.algorithms.ranges import Within
from backflip.functional.unpaired_losses import bco

__all__ = ["BCO"]

UNEVEN = 3 / 2
"""How many times the rarer kind the other may weigh. Jung et al. (2024, appendix C) repeated the
rarer answers where it was 1.6."""


@dataclass(frozen=True, kw_only=True)
class BCO(UnpairedObjective):
    """−log σ(±(β·log π/π_ref − δ)), + for a good answer (Jung et al., 2024, eq. 8).

    δ = (E[reward of good answers] + E[reward of bad ones])/2 (eq. 7), where the classifier is
    neither sure of everything nor of nothing. Both means are exponential averages over the steps,
    as the paper's are (§4.2, which does not say how fast), without a gradient; a step with answers
    of one kind only moves only the mean of that kind. They start from 0, which is exact where the
    policy starts as its own reference. TRL has one mean of all answers seen so far, which the
    frequent kind pulls to its side.

    Eq. 8 weighs both kinds alike; here every answer weighs the same, so repeat the rarer kind or
    give it a ``weight``, as the authors did. The density ratios of the paper's first version, for
    good and bad answers to different prompts, are not computed: bring them as the ``weight``.
    """

    title: ClassVar[str] = "BCO"
    shift_decay: Annotated[float, Within(0.0, 1.0, "it is the share of a mean that stays")] = 0.9
    """Share of both running means that a step keeps; 0 takes the last batch alone."""
    reward_good: float = 0.0
    """Running mean of the implicit reward of good answers; where a new run starts, 0."""
    reward_bad: float = 0.0
    """The same of bad answers."""

    @property
    def shift(self) -> float:
        """δ, in units of the implicit reward."""
        return (self.reward_good + self.reward_bad) / 2

    def per_answer(self, judged: LabelledLogps) -> Float[Tensor, " B"]:
        return bco(judged.ratio, judged.label, beta=self.beta, shift=self.shift)

    def imbalance(self, good: float | int, bad: float | int) -> str:
        """A warning where one label weighs more than ``UNEVEN`` times the other; "" if not."""
        few, many = sorted((good, bad))
        if many <= UNEVEN * few * (1 + 1e-6):
            return ""
        rare, other = ("good", "bad") if good < bad else ("bad", "good")
        return (
            f"{other} answers weigh {many / few:.1f} × {rare} ones; BCO's authors balance them: "
            f"repeat the {rare} ones, or give their rows weight={many / few:.3g}"
        )

    def origin(self, judged: LabelledLogps) -> Float[Tensor, " B"]:
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
