"""APO-zero for single answers: good ones up, bad ones down, measured from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.unpaired import LabelledLogps, UnpairedObjective
from backflip.functional.unpaired_losses import apo_zero_unpaired

__all__ = ["APOZeroUnpaired"]


@dataclass(frozen=True, kw_only=True)
class APOZeroUnpaired(UnpairedObjective):
    """1 − σ(β·log π/π_ref) good, σ(β·log π/π_ref) bad (D'Oosterlinck et al., 2024).

    Each half of APO-zero where its answer is: KTO with z₀ = 0, and half its cost.
    """

    title: ClassVar[str] = "APO zero unpaired"

    def per_answer(self, judged: LabelledLogps) -> Float[Tensor, " B"]:
        return apo_zero_unpaired(judged.ratio, judged.label, beta=self.beta)

    def origin(self, judged: LabelledLogps) -> Float[Tensor, " B"]:
        return torch.zeros_like(judged.logp_ref)
