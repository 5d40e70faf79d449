"""DPO on log-ratios per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta
from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Usual
from backflip.functional.preference_losses import dpo

__all__ = ["LengthNormalisedDPO"]


@dataclass(frozen=True, kw_only=True)
class LengthNormalisedDPO(PairObjective):
    """−log σ(β·(log-ratio per token of the better − of the worse)) (Tülu 3: Lambert et al., 2024).

    TRL's ``sigmoid_norm``. Soft labels are learnt by cross-entropy, margins as an offset.
    """

    title: ClassVar[str] = "Length normalised DPO"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft", "margin"})
    beta: Annotated[Beta, Usual(2.0, 10.0, "5 (Lambert et al., 2024)")] = 5.0
    """Scale of the implicit reward, a log-ratio in nats a token: larger than DPO's."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        delta = better.mean_ratio - worse.mean_ratio
        return dpo(delta, beta=self.beta, margin=better.margin, soft=better.soft)

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.beta * told.mean_ratio
