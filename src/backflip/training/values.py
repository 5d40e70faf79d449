"""Sources of expected scores: none, a critic, the policy's own value head, Monte Carlo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        out, lengths = torch.zeros_like(rollouts.logp), rollouts.mask.sum(-1)
        for at in range(0, int(lengths.max()), self.every):
            rows = torch.nonzero(lengths > at)[:, 0]
            out[rows, at : at + self.every] = self._state(rollouts[rows], at)[:, None]
        return torch.where(rollouts.mask, out, 0.0)

    def _state(self, rollouts: Rollouts, at: int) -> Float[Tensor, " B"]:
        """The mean score of answers that go on from their first ``at`` tokens; 0 without any."""
        steps = rollouts.steps
        prompts = [prompt.tolist() for prompt in steps.prompt.rows()]
        begun = [answer.tolist()[:at] for answer in steps.answer.rows()]
        asked = [prompt + so_far for prompt, so_far in zip(prompts, begun, strict=True)]
        least, most = max(self.params.min_tokens - at, 0), self.params.max_tokens - at
        params = replace(self.params, min_tokens=least, max_tokens=most)
        drawn = self.engine.generate(asked, params, group=self.answers, seed=self.seed + at)
        place = torch.tensor([one.prompt_index for one in drawn])
        whole = TokenSteps.of(
            [prompts[one.prompt_index] for one in drawn],
            [begun[one.prompt_index] + list(one.tokens) for one in drawn],
        )
        judged = replace(
            rollouts[place],
            steps=whole,
            mask=whole.mask,
            logp=torch.zeros(whole.mask.shape),
            finished=as_rollouts(asked, drawn).finished,
        )
        scores = self.reward(judged).scores
        means = [scores[place == row].nanmean() for row in range(len(rollouts))]
        return torch.stack(means).nan_to_num()

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return {}
