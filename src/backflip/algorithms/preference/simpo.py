"""SimPO: log-likelihood per token is the reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta
from backflip.algorithms.preference.base import ComparedLogps, ReferenceFree
from backflip.algorithms.ranges import Usual
from backflip.functional.preference_losses import simpo

__all__ = ["SimPO"]


@dataclass(frozen=True, kw_only=True)
class SimPO(ReferenceFree):
    """−log σ(β·difference of log-likelihoods per token − γ) (Meng et al., 2024, eq. 6).

    No reference and, unlike TRL's default, no NLL. Soft labels are learnt by cross-entropy.
    """

    title: ClassVar[str] = "SimPO"
    rates: ClassVar[tuple[float, float] | None] = (3e-5, 1e-6)
    """It comes apart when it is hurried (Meng et al., 2024: 3e-7 to 1e-6)."""
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft"})
    beta: Annotated[Beta, Usual(1.5, 10.0, "2.0 to 2.5, up to 10 (Meng et al., 2024)")] = 2.0
    """Scale of the reward, a log-likelihood in nats a token; the paper's 2.0 to 2.5."""
    target_margin: float = 1.0
    """γ: the margin asked for, in the unit of the reward; the paper has γ/β about ½."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        delta = better.mean_logp - worse.mean_logp
        return simpo(delta, beta=self.beta, gamma=self.target_margin, soft=better.soft)

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.beta * told.mean_logp

    def implicit_reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.reward(told)
