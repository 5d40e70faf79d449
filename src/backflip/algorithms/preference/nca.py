"""NCA: tell answers from noise, so that the chosen one stays likely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta
from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Usual
from backflip.functional.preference_losses import nca_pair

__all__ = ["NCA"]


@dataclass(frozen=True, kw_only=True)
class NCA(PairObjective):
    """−log σ(r_w) − ½·log σ(−r_w) − ½·log σ(−r_l), r = β·log π/π_ref (Chen et al., 2024, §4.1).

    The pair form. Each answer is judged by itself: the better one does not lose likelihood, as it
    may in DPO.
    """

    title: ClassVar[str] = "NCA"
    beta: Annotated[Beta, Usual(1e-3, 0.1, "0.01 (Chen et al., 2024)")] = 0.01
    """How tightly the policy is held; the paper's α."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        return nca_pair(better.ratio, worse.ratio, beta=self.beta)
