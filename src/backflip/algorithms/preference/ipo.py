"""IPO: a margin to hit rather than to exceed, per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta
from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Usual
from backflip.functional.preference_losses import ipo

__all__ = ["IPO"]


@dataclass(frozen=True, kw_only=True)
class IPO(PairObjective):
    """(Difference of the log-ratios per token − 1/(2β))² (Azar et al., 2023, eq. 17, averaged).

    Its authors advise to average over tokens what eq. 17 adds up, and TRL does so: ``IPOSum`` is
    the equation as it was printed. β, the paper's τ, is therefore in nats a token. A soft label p
    has (2p − 1)/(2β) for its target.
    """

    title: ClassVar[str] = "IPO"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft"})
    separated: ClassVar[float] = 0.9 * 0.5
    """Nine tenths of the target, which is ½ in units of the reward."""
    beta: Annotated[Beta, Usual(0.01, 1.0, "0.01 to 1 (the search of Meng et al., 2024)")] = 0.1

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        delta = better.mean_ratio - worse.mean_ratio
        return ipo(delta, beta=self.beta, soft=better.soft)

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.beta * told.mean_ratio
