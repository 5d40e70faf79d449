"""CPO: DPO with a uniform reference, and imitation of the better answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta, NLLCoef
from backflip.algorithms.preference.base import ComparedLogps, ReferenceFree
from backflip.algorithms.ranges import Usual
from backflip.functional.preference_losses import dpo

__all__ = ["CPO"]


@dataclass(frozen=True, kw_only=True)
class CPO(ReferenceFree):
    """−log σ(β·difference of log-likelihoods) + NLL of the better answer (Xu et al., 2024).

    The NLL is in nats a token, the paper's in nats an answer. Soft labels are learnt by
    cross-entropy, margins as an offset.
    """

    title: ClassVar[str] = "CPO"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft", "margin"})
    beta: Annotated[Beta, Usual(0.01, 0.5, "0.1 (Xu et al., 2024)")] = 0.1
    nll_coef: NLLCoef = 1.0
    """Weight of the negative log-likelihood of the best answer, in nats a token."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        delta = better.logp - worse.logp
        return dpo(delta, beta=self.beta, margin=better.margin, soft=better.soft)
