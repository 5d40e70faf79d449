"""Parts shared by every form of PPO: the clipped surrogate, the price of KL, when to stop early."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Epochs, OnlineAlgorithm, Outcome
from backflip.algorithms.online.terms import surrogate, watched
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.functional.kl import adaptive_kl_coef
from backflip.functional.reductions import token_mean
from backflip.functional.value_losses import clipped_value_loss

__all__ = ["ClippedSurrogate"]


@dataclass(frozen=True, kw_only=True)
class ClippedSurrogate(OnlineAlgorithm):
    """Learning from advantages under a KL leash; who deserves which is left to ``credit``."""

    needs_values: ClassVar[bool] = True

    epochs: Epochs = 4
    eps: Annotated[
        float,
        Within(0.0, 1.0, "the ratio is clipped to 1 ± eps"),
        Usual(0.1, 0.3, "0.2 (Schulman et al., 2017)"),
    ] = 0.2
    """A ratio of new to old probability gains nothing beyond 1 ± eps."""
    kl_coef: Annotated[
        float,
        Within(0.0, math.inf, "below 0 it would pay for leaving the reference"),
        Usual(0.01, 0.1, "0.01 to 0.1 (0.05 in TL;DR's reproductions)"),
    ] = 0.05
    """Price of one nat of KL from the reference, in units of reward."""
    kl_target: Annotated[
        float | None, Usual(1.0, 12.0, "6 nats an answer (Ziegler et al., 2019)")
    ] = None
    """KL in nats an answer that ``kl_coef`` is adapted to hold (Ziegler: 6); None keeps it."""
    kl_horizon: int = 10_000
    """Answers over which the adaptation acts."""
    whiten_advantages: bool = True
    """Give the advantages of a batch mean 0 and deviation 1."""
    entropy_coef: Annotated[float, Usual(0.0, 0.01, "0; bonuses above 0.01 end in noise")] = 0.0
    """Reward of one nat of entropy, in the loss."""
    vf_coef: Annotated[float, Within(0.0, math.inf, "it weighs a loss"), Usual(0.0, 1.0, "0.1")] = (
        0.0
    )
    """Weight of the value loss of a policy with a value head of its own; 0 beside a critic."""
    value_eps: Annotated[
        float, Within(0.0, math.inf, "values are clipped to ± value_eps"), Usual(0.1, 0.5, "0.2")
    ] = 0.2
    """A value gains nothing by moving further than this from what it was."""
    target_kl: float | None = None
    """Mean KL per token from the old policy at which the epochs stop early; None never stops."""

    def counts(self, batch: Experience) -> Mapping[str, Float[Tensor, ""]]:
        tokens = batch.scored.rollouts.mask.sum().float()
        return {"policy": tokens, "entropy": tokens, "value": tokens}

    def loss(self, model: Any, batch: Experience) -> Outcome:
        """The clipped surrogate; beside it an entropy bonus and the policy's own value loss."""
        s, mask = batch.scored, batch.scored.rollouts.mask
        want = {"logp", "entropy"}
        want |= {"entropy_to_raise"} if self.entropy_coef else set()
        want |= {"values"} if self.vf_coef else set()
        now = model.evaluate(s.rollouts.steps, want)
        losses = {"policy": token_mean(surrogate(now, batch, self.eps, self.eps), mask)}
        if self.entropy_coef:
            bonus = token_mean(now["entropy_to_raise"], mask)
            losses["entropy"] = bonus.scaled(-self.entropy_coef)
        if self.vf_coef:
            error = clipped_value_loss(now["values"], s.values, batch.returns, eps=self.value_eps)
            losses["value"] = token_mean(error, mask).scaled(self.vf_coef)
        return Outcome(losses, watched(now, batch, losses["policy"], self.eps, self.eps))

    def adapted(self, metrics: Mapping[str, float]) -> ClippedSurrogate:
        if self.kl_target is None:
            return self
        coef = adaptive_kl_coef(
            self.kl_coef,
            metrics["kl"],
            target=self.kl_target,
            horizon=self.kl_horizon,
            rows=int(metrics["answers"]),
        )
        return dataclasses.replace(self, kl_coef=coef)

    def enough(self, metrics: Mapping[str, float]) -> bool:
        return self.target_kl is not None and metrics["approx_kl"] > 1.5 * self.target_kl
