"""TR-DPO: a reference that follows the policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import DPOBeta, Smoothing
from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Within
from backflip.functional.preference_losses import dpo

__all__ = ["TRDPO"]


@dataclass(frozen=True, kw_only=True)
class TRDPO(PairObjective):
    """DPO whose reference moves while it learns (Gorbatovski et al., 2024).

    Every ``every`` steps π_ref ← ``mix``·π + (1 − ``mix``)·π_ref, weight by weight: their soft
    update with every = 1, their hard one with mix = 1 and every = 512. The loss is DPO's on
    log-ratios to the reference of the moment; ``train`` moves it, so that log-probabilities stated
    before the training cannot be kept. Held-out numbers are against the reference that the run
    started from: against one that follows closely every reward is near 0. Soft labels and margins
    as in DPO.
    """

    title: ClassVar[str] = "TR-DPO"
    reference_moves: ClassVar[bool] = True
    combines: ClassVar[bool] = False
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft", "margin"})
    beta: DPOBeta = 0.05
    """How tightly the policy is held; the scale of the implicit reward."""
    mix: Annotated[
        float, Within(0.0, 1.0 + 1e-9, "at 0 the reference stands still, which is dpo", open=True)
    ] = 0.6
    """Share of the policy in the new reference, above 0; the paper's α."""
    every: Annotated[int, Within(1.0, math.inf, "it counts steps")] = 1
    """Optimiser steps from one update to the next; the paper's τ."""
    label_smoothing: Smoothing = 0.0
    """P(a label is wrong), the same for all: conservative DPO (Mitchell, 2023)."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        soft = better.smoothed(self.label_smoothing)
        return dpo(better.ratio - worse.ratio, beta=self.beta, margin=better.margin, soft=soft)
