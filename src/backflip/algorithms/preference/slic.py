"""SLiC-HF: a hinge on log-likelihoods, and imitation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta, NLLCoef
from backflip.algorithms.preference.base import ComparedLogps, ReferenceFree
from backflip.algorithms.ranges import Usual
from backflip.functional.preference_losses import hinge

__all__ = ["SLiC"]


@dataclass(frozen=True, kw_only=True)
class SLiC(ReferenceFree):
    """max(0, δ − β·difference of log-likelihoods) + λ·NLL of the better answer (Zhao et al., 2023).

    The paper imitates a reference answer, here the better one, in nats a token; λ is ``nll_coef``.
    It has no β, which is 1; a difference of length-averaged log-likelihoods is not SLiC's.
    """

    title: ClassVar[str] = "SLiC"
    beta: Annotated[Beta, Usual(0.1, 2.0, "1; the paper has none (Zhao et al., 2023)")] = 1.0
    """Scale of the log-likelihoods, in nats an answer."""
    delta: float = 1.0
    """δ: the margin from which on a pair has nothing to teach."""
    nll_coef: NLLCoef = 1.0
    """λ: weight of the negative log-likelihood of the best answer, in nats a token."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        return hinge(self.beta * (better.logp - worse.logp), margin=self.delta)
