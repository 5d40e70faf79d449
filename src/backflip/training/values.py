"""Sources of expected scores: none, a critic, the policy's own value head.

Those that draw further answers (Monte Carlo, a greedy one) are in ``drawn_values``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.algorithms.online.values import ValueLoss
from backflip.data.batches import Experience, Rollouts
from backflip.distributed.reading import evaluate_all, read_in_parts
from backflip.training.learner import Learner, Work

__all__ = ["Critic", "NoValues", "SharedValues", "ValueSource"]


@runtime_checkable
class ValueSource(Protocol):
    """The score expected before each choice."""

    def __call__(
        self, policy: Any, rollouts: Rollouts, scores: Float[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        """``scores``: those of the answers themselves."""
        ...

    def states(self, rollouts: Rollouts) -> Bool[Tensor, "B T"]:
        """True on choices before which a value of its own stands."""
        ...

    def learn(self, batch: Experience) -> Mapping[str, float]:
        """Learn from what happened; returns metrics."""
        ...


class NoValues:
    """Expects 0 everywhere: for algorithms whose baseline is elsewhere."""

    def __call__(
        self, policy: Any, rollouts: Rollouts, scores: Float[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        return torch.zeros_like(rollouts.logp)

    def states(self, rollouts: Rollouts) -> Bool[Tensor, "B T"]:
        return rollouts.mask

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return {}


class Critic:
    """A value model with an optimiser of its own."""

    def __init__(self, learner: Learner, *, value_eps: float = 0.2) -> None:
        self.learner, self.objective = learner, ValueLoss(value_eps=value_eps)

    @torch.no_grad()
    def __call__(
        self, policy: Any, rollouts: Rollouts, scores: Float[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        model, budget = self.learner.model, self.learner.token_budget
        parts = read_in_parts(model, rollouts, budget, lambda piece: model.values(piece.steps))
        out = torch.zeros_like(rollouts.logp)
        for rows, values in parts:
            out[rows] = values
        return out

    def states(self, rollouts: Rollouts) -> Bool[Tensor, "B T"]:
        return rollouts.mask

    def learn(self, batch: Experience) -> Mapping[str, float]:
        metrics = self.learner.step(Work(self.objective, batch))
        return {
            "value_loss": metrics["value_loss"],
            "value_grad_norm": metrics["grad_norm"],
        }

    def state_dict(self) -> dict[str, Any]:
        return self.learner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state)


class SharedValues:
    """The policy's own value head, which the policy's loss teaches."""

    def __init__(self, *, token_budget: int) -> None:
        self.token_budget = token_budget

    def __call__(
        self, policy: Any, rollouts: Rollouts, scores: Float[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        return evaluate_all(policy, rollouts, {"values"}, self.token_budget)["values"]

    def states(self, rollouts: Rollouts) -> Bool[Tensor, "B T"]:
        return rollouts.mask

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return {}
