"""ORPO: supervised fine-tuning that shuns the worse answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta, NLLCoef
from backflip.algorithms.preference.base import ComparedLogps, ReferenceFree
from backflip.algorithms.ranges import Usual
from backflip.functional.preference_losses import log_odds, orpo

__all__ = ["ORPO"]


@dataclass(frozen=True, kw_only=True)
class ORPO(ReferenceFree):
    """NLL of the better answer − λ·log σ(log odds ratio of both) (Hong et al., 2024, eq. 6 and 7).

    Odds are those of p = exp(log-likelihood per token). The NLL is a mean over the better answers'
    own tokens, as in SFT here; TRL adds the prompts' tokens. No reference.
    """

    title: ClassVar[str] = "ORPO"
    rates: ClassVar[tuple[float, float] | None] = (1e-4, 8e-6)
    """It is fine-tuning at the same time (Hong et al., 2024: 8e-6)."""
    beta: Annotated[Beta, Usual(0.05, 1.0, "0.1 to 1 (Hong et al., 2024)")] = 0.1
    """The paper's λ: weight of the preference beside the NLL."""
    nll_coef: NLLCoef = 1.0
    """Weight of the negative log-likelihood of the best answer, in nats a token."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        return self.beta * orpo(better.mean_logp, worse.mean_logp)

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        """The log odds, by which the objective orders."""
        return log_odds(told.mean_logp)

    def implicit_reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.reward(told)
