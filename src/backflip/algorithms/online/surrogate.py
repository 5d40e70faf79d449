"""Parts shared by every form of PPO: value loss, adaptive price of KL, when to stop early."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.base import Epochs
from backflip.algorithms.online.policy_loss import ClippedLoss
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.functional.kl import adaptive_kl_coef
from backflip.functional.reductions import Loss, token_mean
from backflip.functional.value_losses import clipped_value_loss

__all__ = ["ClippedSurrogate"]


@dataclass(frozen=True, kw_only=True)
class ClippedSurrogate(ClippedLoss):
    """Learning from advantages under a KL leash; who deserves which is left to ``credit``."""

    values_from: ClassVar[tuple[str, ...]] = ("critic", "shared", "monte_carlo")

    epochs: Epochs = 4
    eps: Annotated[
        float,
        Within(0.0, 1.0, "the ratio is clipped to 1 ± eps"),
        Usual(0.1, 0.3, "0.2 (Schulman et al., 2017)"),
    ] = 0.2
    """A ratio of new to old probability gains nothing beyond 1 ± eps."""
    eps_high: Annotated[
        float | None, Within(0.0, math.inf, "the ratio is clipped by it"), Usual(0.1, 0.3, "0.28")
    ] = None
    """The upper side's own width (DAPO: 0.28); None: ``eps`` on both sides."""
    kl_coef: Annotated[
        float,
        Within(0.0, math.inf, "below 0 it would pay for leaving the reference"),
        Usual(0.01, 0.1, "0.01 to 0.1 (0.05 in TL;DR's reproductions)"),
    ] = 0.05
    """Price of one nat of KL from the reference, in units of reward."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Where it is paid: taken off the reward of each choice, or a term beside the surrogate."""
    kl_kind: Literal["k1", "k2", "k3"] = "k1"
    """Its estimate (Schulman, 2020): k1 in the reward, k2 or k3 in the loss."""
    kl_target: Annotated[
        float | None, Usual(1.0, 12.0, "6 nats an answer (Ziegler et al., 2019)")
    ] = None
    """KL in nats an answer that ``kl_coef`` is adapted to hold (Ziegler: 6); None keeps it."""
    kl_horizon: int = 10_000
    """Answers over which the adaptation acts."""
    whiten_advantages: bool = True
    """Give the advantages of a batch mean 0 and deviation 1."""
    vf_coef: Annotated[float, Within(0.0, math.inf, "it weighs a loss"), Usual(0.0, 1.0, "0.1")] = (
        0.0
    )
    """Weight of the value loss of a policy with a value head of its own; 0 beside a critic."""
    value_eps: Annotated[
        float, Within(0.0, math.inf, "values are clipped to ± value_eps"), Usual(0.1, 0.5, "0.2")
    ] = 0.2
    """A value gains nothing by moving further than this from what it was."""
    value_steps: Annotated[int, Within(0, math.inf, "it counts rounds"), Usual(0, 100, "50")] = 0
    """Rounds at the start in which only the critic learns, from the returns of a policy that stays
    as it is (VC-PPO: Yuan et al., 2025)."""
    target_kl: float | None = None
    """Mean KL per token from the old policy at which the epochs stop early; None never stops."""

    @property
    def sides(self) -> tuple[float, float]:
        return self.eps, self.eps if self.eps_high is None else self.eps_high

    def counts(self, batch: Experience) -> Mapping[str, Float[Tensor, ""]]:
        tokens = batch.scored.rollouts.mask.sum().float()
        return {**super().counts(batch), "value": tokens}

    def wanted(self) -> set[str]:
        return super().wanted() | ({"values"} if self.vf_coef else set[str]())

    def beside(self, now: Mapping[str, Tensor], batch: Experience) -> dict[str, Loss]:
        """The policy's own value loss."""
        if not self.vf_coef:
            return {}
        s = batch.scored
        error = clipped_value_loss(now["values"], s.values, batch.returns, eps=self.value_eps)
        return {"value": token_mean(error, s.rollouts.mask).scaled(self.vf_coef)}

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
