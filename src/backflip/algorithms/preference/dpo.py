"""DPO: the policy is its own reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Smoothing
from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.functional.preference_losses import dpo

__all__ = ["DPO"]


@dataclass(frozen=True, kw_only=True)
class DPO(PairObjective):
    """−log σ(β·(log π/π_ref of the better − of the worse answer)) (Rafailov et al., 2023, eq. 7).

    Soft labels of the data are learnt by cross-entropy, margins as an offset that the implicit
    margin must exceed (ODPO: Amini et al., 2024).
    """

    title: ClassVar[str] = "DPO"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft", "margin"})
    label_smoothing: Smoothing = 0.0
    """P(a label is wrong), the same for all: conservative DPO (Mitchell, 2023)."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        soft = better.smoothed(self.label_smoothing)
        return dpo(better.ratio - worse.ratio, beta=self.beta, margin=better.margin, soft=soft)
