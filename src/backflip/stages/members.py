"""Roles of an online stage as they are built in a process of their own, from its recipe."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Experience, Rollouts
from backflip.data.records import Prompt
from backflip.distributed.reading import evaluate_all
from backflip.generate.engine import Completion, Engine, SamplingParams, end
from backflip.models.causal import CausalPolicy
from backflip.models.divergence import exact_kl
from backflip.models.learnt import copied, taken_over
from backflip.reward.protocol import Judgement
from backflip.stages.context import StageContext
from backflip.stages.engines import Embedded
from backflip.stages.environments import judged_by
from backflip.stages.rewards.context import RewardContext
from backflip.stages.values import ValueContext
from backflip.training.run_folder import RunFolder
from backflip.training.values import Critic

__all__ = ["ActingModel", "FrozenModel", "Judge", "ValueMember"]

Weights = Mapping[str, Tensor]


class ActingModel:
    """An engine with a copy of what learns, whose weights it is told."""

    def __init__(self, recipe: Any) -> None:
        context = StageContext.of(recipe, _quiet)
        self._policy = _policy(context)
        if not isinstance(recipe.engine, Embedded):  # a server has a copy of its own
            self._policy.to("cpu")
        self._engine: Engine = recipe.engine.build(
            self._policy.model, context.tokenizer, max_rows=recipe.max_rows
        )

    def generate(
        self,
        weights: Weights | None,
        prompts: Mapping[int, Sequence[int]],
        params: SamplingParams,
        group: int,
        seed: int,
    ) -> list[Completion]:
        """Answers to prompts by their numbers, with these weights, or those that it has."""
        if weights is not None:
            taken_over(self._policy.model, weights)
            self._engine.sync(self._policy.model)
        how: Any = {"group": group, "seed": seed, "numbers": list(prompts)}
        return self._engine.generate(list(prompts.values()), params, **how)

    def close(self) -> None:
        """End what the engine has started."""
        end(self._engine)


class FrozenModel:
    """A reference with weights of its own."""

    def __init__(self, recipe: Any, weights: Weights) -> None:
        policy = _policy(StageContext.of(recipe, _quiet))
        taken_over(policy.model, weights)
        self._model = policy.requires_grad_(requires_grad=False)

    def evaluated(
        self, record: Any, want: Collection[str], token_budget: int, temperature: float
    ) -> dict[str, Float[Tensor, "B T"]]:
        """Numbers of every choice of a record of answers."""
        self._model.temperature = temperature
        return evaluate_all(self._model, record, want, token_budget)

    def exact_kl(
        self, weights: Weights, temperature: float, record: Any, token_budget: int
    ) -> Float[Tensor, " B"]:
        """KL of a policy with these weights from this one, of each answer."""
        policy = copy.deepcopy(self._model)
        taken_over(policy.model.requires_grad_(requires_grad=True), weights)
        policy.temperature = self._model.temperature = temperature
        return exact_kl(policy, self._model, record, token_budget)


class Judge:
    """The reward of a recipe."""

    def __init__(self, recipe: Any, records: Sequence[Prompt]) -> None:
        given = RewardContext(StageContext.of(recipe, _quiet), None, records, None)
        self._reward = judged_by(recipe, given, None)

    def judged(self, rollouts: Rollouts) -> Judgement:
        return self._reward(rollouts)


class ValueMember:
    """A critic with its optimiser."""

    def __init__(
        self, recipe: Any, run: Path, updates: int, scorer: str | None, random: Tensor
    ) -> None:
        """``random``: state of the generator that fresh weights are drawn with."""
        context = StageContext.of(recipe, _quiet)
        torch.set_rng_state(random)
        eps = getattr(recipe.algorithm, "value_eps", 0.2)
        given = ValueContext(context, RunFolder(run), updates, scorer, _nobody, None, eps)
        self._critic: Critic = recipe.values.build(given)

    def valued(self, rollouts: Rollouts) -> Float[Tensor, "B T"]:
        return self._critic(None, rollouts, torch.zeros(len(rollouts)))

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return self._critic.learn(batch)

    def state_dict(self) -> dict[str, Any]:
        weights = copied(self._critic.learner.model)
        return {"weights": weights, "critic": self._critic.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        taken_over(self._critic.learner.model, state["weights"])
        self._critic.load_state_dict(state["critic"])


def _policy(context: StageContext) -> CausalPolicy:
    recipe: Any = context.recipe
    compute = context.masters[1]
    return CausalPolicy(context.causal(), temperature=recipe.sampling.temperature, compute=compute)


def _quiet(line: str) -> None:
    """The process that asks says the same of the same recipe."""
    del line


def _nobody(rollouts: Rollouts) -> Judgement:
    raise AssertionError("a critic asks for no reward")
