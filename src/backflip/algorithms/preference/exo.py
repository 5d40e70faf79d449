"""EXO: the exact optimum, by reverse KL to the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Within
from backflip.functional.preference_losses import exo_pair

__all__ = ["EXO"]


@dataclass(frozen=True, kw_only=True)
class EXO(PairObjective):
    """KL of (σ(m), σ(−m)) to (1 − ε, ε), m = β·difference of log-ratios (Ji et al., 2024, §3.2).

    The pair form. Zero where the policy is as sure of a label as the label is of itself.
    """

    title: ClassVar[str] = "EXO"
    smoothing: Annotated[float, Within(0.0, 0.5, "at 0 the divergence is infinite", open=True)] = (
        1e-3
    )
    """ε, above 0: what keeps the divergence finite."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        return exo_pair(better.ratio - worse.ratio, beta=self.beta, smoothing=self.smoothing)
