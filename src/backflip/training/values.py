"""Sources of expected scores: none, a critic, the policy's own value head, Monte Carlo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.values import ValueLoss
from backflip.data.batches import Experience, Rollouts, TokenSteps
from backflip.distributed.reading import evaluate_all, read_in_parts
from backflip.generate.engine import Engine, SamplingParams
from backflip.generate.sampler import rollouts as as_rollouts
from backflip.reward.protocol import RewardSource
from backflip.training.learner import Learner, Work

__all__ = ["Critic", "MonteCarlo", "NoValues", "SharedValues", "ValueSource"]


@runtime_checkable
class ValueSource(Protocol):
    """The score expected before each choice."""

    def __call__(self, policy: Any, rollouts: Rollouts) -> Float[Tensor, "B T"]: ...

    def learn(self, batch: Experience) -> Mapping[str, float]:
        """Learn from what happened; returns metrics."""
        ...


class NoValues:
    """Expects 0 everywhere: for algorithms whose baseline is elsewhere."""

    def __call__(self, policy: Any, rollouts: Rollouts) -> Float[Tensor, "B T"]:
        return torch.zeros_like(rollouts.logp)

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return {}


class Critic:
    """A value model with an optimiser of its own."""

    def __init__(self, learner: Learner, *, value_eps: float = 0.2) -> None:
        self.learner, self.objective = learner, ValueLoss(value_eps=value_eps)

    @torch.no_grad()
    def __call__(self, policy: Any, rollouts: Rollouts) -> Float[Tensor, "B T"]:
        model, budget = self.learner.model, self.learner.token_budget
        parts = read_in_parts(model, rollouts, budget, lambda piece: model.values(piece.steps))
        out = torch.zeros_like(rollouts.logp)
        for rows, values in parts:
            out[rows] = values
        return out

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

    def __call__(self, policy: Any, rollouts: Rollouts) -> Float[Tensor, "B T"]:
        return evaluate_all(policy, rollouts, {"values"}, self.token_budget)["values"]

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return {}


@dataclass(frozen=True)
class MonteCarlo:
    """Mean score of fresh continuations of each state (VinePPO: Kazemnejad et al., 2024).

    States are every ``every`` choices apart; between two of them the value of the earlier one
    holds, so that the advantage of a stretch falls on its last choice. The values are of scores
    alone: KL that is paid in the reward is not in them.
    """

    engine: Engine
    params: SamplingParams
    reward: RewardSource
    answers: int = 9
    """Continuations of each state; the paper's K."""
    every: int = 16
    """Choices from one state to the next; the paper goes by lines."""
    seed: int = 0

    def __call__(self, policy: Any, rollouts: Rollouts) -> Float[Tensor, "B T"]:
        del policy  # the engine draws with its weights
        steps, out = rollouts.steps, torch.zeros_like(rollouts.logp)
        states = [
            (row, at)
            for row in range(len(rollouts))
            for at in range(0, int(rollouts.mask[row].sum()), self.every)
        ]
        prompts = [steps.prompt.row(row).tolist() for row, _ in states]
        begun = [steps.answer.row(row).tolist()[:at] for row, at in states]
        asked = [prompt + so_far for prompt, so_far in zip(prompts, begun, strict=True)]
        drawn = self.engine.generate(asked, self.params, group=self.answers, seed=self.seed)
        place = torch.tensor([one.prompt_index for one in drawn])
        whole = TokenSteps.of(
            [prompts[i] for i in place.tolist()],
            [begun[one.prompt_index] + list(one.tokens) for one in drawn],
        )
        ended = as_rollouts(asked, drawn)
        of = torch.tensor([row for row, _ in states])[place]
        judged = Rollouts(
            steps=whole,
            mask=whole.mask,
            logp=torch.zeros(whole.mask.shape),
            group=of,
            finished=ended.finished,
            row=rollouts.row[of],
        )
        scores = self.reward(judged).scores
        for number, (row, at) in enumerate(states):
            out[row, at : at + self.every] = scores[place == number].nanmean()
        return torch.where(rollouts.mask, out.nan_to_num(), 0.0)

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return {}
