"""VAPO: PPO whose value function is trusted with long answers (Yue et al., 2025)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from backflip.algorithms.base import Epochs
from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.surrogate import ClippedSurrogate
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import length_adaptive_lam, returns_to_go, step_gae, whiten
from backflip.functional.reductions import Loss, token_mean

__all__ = ["VAPO"]


@dataclass(frozen=True, kw_only=True)
class VAPO(ClippedSurrogate):
    """PPO with λ = 1 for its critic, λ = 1 − 1/(α·n) for its policy, and NLL on right answers.

    (2504.05118.) The critic first learns alone from answers of the policy as it is
    (``value_steps``). Clip-higher, mean over tokens, no KL.
    """

    title: ClassVar[str] = "VAPO"
    values_from: ClassVar[tuple[str, ...]] = ("critic",)

    epochs: Epochs = 1
    """Passes over each batch of experience."""
    value_steps: Annotated[int, Within(0, math.inf, "it counts rounds"), Usual(0, 100, "50")] = 50
    """Rounds at the start in which only the critic learns, from the returns of a policy that stays
    as it is."""
    eps_high: Annotated[
        float | None, Within(0.0, 1.0, "the ratio is clipped by it"), Usual(0.1, 0.3, "0.28")
    ] = 0.28
    """A ratio of new to old probability gains nothing above 1 + eps_high."""
    kl_coef: KLCoef = 0.0
    """Price of one nat of KL from the reference, in units of reward."""
    alpha: Annotated[
        float, Within(0.0, 1.0, "it scales 1 − 1/(α·n)", open=True), Usual(0.01, 0.1, "0.05")
    ] = 0.05
    """α of the policy's λ: 0 for answers of up to 1/α tokens, near 1 for long ones."""
    nll_coef: Annotated[float, Within(0.0, 1.0, "it weighs a loss"), Usual(0.0, 0.1, "0.1")] = 0.1
    """μ, weight of the likelihood of answers with a reward above 0."""

    def credit(self, scored: Scored) -> Experience:
        s, mask = scored, scored.rollouts.mask
        rewards, lam = self.rewards(s), length_adaptive_lam(mask, alpha=self.alpha)
        advantages = step_gae(rewards, s.values, mask, s.states, lam=lam)
        white = whiten(advantages, mask) if self.whiten_advantages else advantages
        return Experience(scored, white, returns_to_go(rewards, mask))

    def right(self, batch: Experience) -> Bool[Tensor, "B T"]:
        """Tokens of answers with a reward above 0."""
        return batch.scored.rollouts.mask & (batch.scored.total() > 0)[:, None]

    def counts(self, batch: Experience) -> Mapping[str, Float[Tensor, ""]]:
        return {**super().counts(batch), "nll": self.right(batch).sum().float()}

    def beside(self, now: Mapping[str, Tensor], batch: Experience) -> dict[str, Loss]:
        if not self.nll_coef:
            return super().beside(now, batch)
        nll = token_mean(-now["logp"], self.right(batch)).scaled(self.nll_coef)
        return {**super().beside(now, batch), "nll": nll}
