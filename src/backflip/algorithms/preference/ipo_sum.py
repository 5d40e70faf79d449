"""IPO as it was printed: a margin to hit rather than to exceed, per answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta
from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Usual
from backflip.functional.preference_losses import ipo

__all__ = ["IPOSum"]


@dataclass(frozen=True, kw_only=True)
class IPOSum(PairObjective):
    """(Difference of the log-ratios − 1/(2β))², summed over tokens (Azar et al., 2023, eq. 17).

    β is the paper's τ. ``IPO`` averages over tokens, as its authors advise. A soft label p has
    (2p − 1)/(2β) for its target.
    """

    title: ClassVar[str] = "IPO sum"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft"})
    separated: ClassVar[float] = 0.9 * 0.5
    """Nine tenths of the target, which is ½ in units of the reward."""
    beta: Annotated[Beta, Usual(0.01, 1.0, "0.1 to 1 (Azar et al., 2023)")] = 0.1

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        return ipo(better.ratio - worse.ratio, beta=self.beta, soft=better.soft)
