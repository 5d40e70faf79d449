"""f-DPO: a leash that is another divergence than KL(π‖π_ref)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Within
from backflip.functional.preference_losses import (
    alpha_slope,
    f_dpo,
    forward_kl_slope,
    js_slope,
    reverse_kl_slope,
)

__all__ = ["FDPO"]

SLOPES = {"reverse_kl": reverse_kl_slope, "forward_kl": forward_kl_slope, "js": js_slope}


@dataclass(frozen=True, kw_only=True)
class FDPO(PairObjective):
    """−log σ(β·f′(π/π_ref of the better) − β·f′(of the worse)) (Wang et al., 2023).

    ``reverse_kl`` is DPO; ``forward_kl``, KL(π_ref‖π), covers all the reference does; ``js``
    (Jensen-Shannon) and ``alpha`` lie between. Soft labels are learnt by cross-entropy.
    """

    title: ClassVar[str] = "f-DPO"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft"})
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "js"
    """By which the policy is held to the reference."""
    alpha: Annotated[
        float, Within(0.0, 1.0, "the ends are reverse_kl and forward_kl", open=True)
    ] = 0.5
    """Of ``alpha`` only, strictly between 0 (reverse) and 1 (forward KL). TRL's is 1 − this."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        slopes = self._slope(better), self._slope(worse)
        return f_dpo(*slopes, beta=self.beta, soft=better.soft)

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.beta * self._slope(told)

    def _slope(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        if self.divergence == "alpha":
            return alpha_slope(told.ratio, alpha=self.alpha)
        return SLOPES[self.divergence](told.ratio)
