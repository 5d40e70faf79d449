"""Robust DPO: unbiased although some labels are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import DPOBeta
from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Usual, Within
from backflip.functional.preference_losses import robust_dpo

__all__ = ["RobustDPO"]


@dataclass(frozen=True, kw_only=True)
class RobustDPO(PairObjective):
    """DPO's loss, corrected for a known share of wrong labels (rDPO: Chowdhury et al., 2024).

    [−(1 − ε)·log σ(m) + ε·log σ(−m)] / (1 − 2ε) with m = β·difference of log-ratios:
    on average over the noise it is the loss of the right labels, which cDPO's is not.
    """

    title: ClassVar[str] = "Robust DPO"
    beta: DPOBeta = 0.01
    """How tightly the policy is held; the scale of the implicit reward."""
    label_noise: Annotated[
        float,
        Within(-1e-9, 0.5, "from a half on, labels say the opposite", open=True),
        Usual(0.0, 0.4, "0.1 to 0.4 (Chowdhury et al., 2024)"),
    ] = 0.1
    """ε, P(a label is wrong): at least 0 and below ½."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        return robust_dpo(better.ratio - worse.ratio, beta=self.beta, noise=self.label_noise)
