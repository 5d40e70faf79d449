"""Sources of expected scores as settings of the online stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn

from backflip.models.heads import ValueModel
from backflip.models.save import load_reward_model
from backflip.reward.protocol import RewardSource
from backflip.stages.choices import NAMES, one_of, register
from backflip.stages.context import StageContext
from backflip.stages.settings import OptimizerSettings, with_rate
from backflip.training import drawn_values
from backflip.training import values as sources
from backflip.training.driver import keep_batches
from backflip.training.run_folder import RunFolder

__all__ = ["VALUES", "ValueContext", "Values", "values_in"]


@dataclass(frozen=True)
class ValueContext:
    """Parts that sources of values are built from."""

    context: StageContext
    run: RunFolder
    updates: int
    """Optimiser steps of the whole run."""
    scorer: str | None
    """The reward model, where there is one."""
    reward: RewardSource
    sampler: Any
    value_eps: float


@dataclass(frozen=True, kw_only=True)
class NoValues:
    """No value function: the baseline is elsewhere, or there is none."""

    def faults(self, prefix: str, algorithm: Any) -> Iterator[str]:
        """Sentences on settings of the algorithm that do not go with it."""
        yield from unsuited(self, prefix, algorithm)

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        """Models of its own that learn."""
        del causal
        return []

    def build(self, given: ValueContext) -> sources.ValueSource:
        del given
        return sources.NoValues()


@dataclass(frozen=True, kw_only=True)
class CriticValues:
    """A value model of its own, with an optimiser of its own."""

    init: Literal["reward_model", "policy"] = "reward_model"
    """Whose weights it starts from; the policy's where no reward model judges."""
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(lr=5e-5))
    """Its learning rate, schedule and moments."""

    def faults(self, prefix: str, algorithm: Any) -> Iterator[str]:
        yield from unsuited(self, prefix, algorithm)
        name = f"{prefix}algorithm.vf_coef"
        if (weight := getattr(algorithm, "vf_coef", 0.0)) > 0:
            yield (
                f"{name} is {weight:g}, but {prefix}values is a critic, with an optimiser of its "
                f"own. Set {name}=0, or {prefix}values=shared."
            )

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        return [ValueModel(causal())]

    def build(self, given: ValueContext) -> sources.ValueSource:
        context = given.context
        if self.init == "policy" or given.scorer is None:
            model = ValueModel(context.causal(), compute=context.masters[1])
        else:
            model = _from_scorer(context, given.scorer)
        learner = context.learner(model, self.optimizer, given.updates)
        learner.on_skip = keep_batches(given.run)
        return sources.Critic(learner, value_eps=given.value_eps)


@dataclass(frozen=True, kw_only=True)
class SharedValues:
    """A value head on the policy, which ``algorithm.vf_coef`` teaches."""

    def faults(self, prefix: str, algorithm: Any) -> Iterator[str]:
        yield from unsuited(self, prefix, algorithm)
        if getattr(algorithm, "vf_coef", None) == 0:
            name = f"{prefix}algorithm.vf_coef"
            yield f"values: shared is never taught while {name} is 0. Set {name}=0.1."

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        del causal
        return []

    def build(self, given: ValueContext) -> sources.ValueSource:
        return sources.SharedValues(token_budget=given.context.recipe.token_budget)


@dataclass(frozen=True, kw_only=True)
class MonteCarloValues:
    """Mean scores of fresh continuations (VinePPO: Kazemnejad et al., 2024)."""

    answers: int = 9
    """Continuations of each state; the paper's K."""
    at: drawn_values.At = "tokens"
    """Where states stand: at the beginning of lines or of sentences, or every few tokens."""
    every: int = 16
    """Tokens from one state to the next, with ``at: tokens``."""

    def faults(self, prefix: str, algorithm: Any) -> Iterator[str]:
        yield from unsuited(self, prefix, algorithm)
        if self.answers < 1 or self.every < 1:
            yield (
                f"{prefix}values.answers is {self.answers}, every is {self.every}; both must be "
                "above 0."
            )
        if self.at != "tokens" and self.every != type(self).every:
            yield (
                f"{prefix}values.every is {self.every}, but states stand at {self.at}. Leave it "
                f"out, or set {prefix}values.at=tokens."
            )

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        del causal
        return []

    def build(self, given: ValueContext) -> sources.ValueSource:
        sampler, context = given.sampler, given.context
        return drawn_values.MonteCarlo(
            engine=sampler.engine,
            params=sampler.params,
            reward=given.reward,
            answers=self.answers,
            every=self.every,
            seed=context.recipe.seed + 1,
            at=self.at,
            decode=context.tokenizer.decode,
        )


@dataclass(frozen=True, kw_only=True)
class GreedyValues:
    """The reward of a greedy answer to each prompt (ReMax: Li et al., 2023)."""

    def faults(self, prefix: str, algorithm: Any) -> Iterator[str]:
        yield from unsuited(self, prefix, algorithm)

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        del causal
        return []

    def build(self, given: ValueContext) -> sources.ValueSource:
        return drawn_values.Greedy(given.sampler, given.reward)


VALUES: dict[str, type[Any]] = {
    "none": NoValues,
    "critic": CriticValues,
    "shared": SharedValues,
    "monte_carlo": MonteCarloValues,
    "greedy": GreedyValues,
}
"""Sources of values by the name that a recipe gives."""
register(VALUES)
if TYPE_CHECKING:
    Values: TypeAlias = NoValues | CriticValues | SharedValues | MonteCarloValues | GreedyValues
else:
    Values = one_of(VALUES)


def unsuited(values: Any, prefix: str, algorithm: Any) -> Iterator[str]:
    """A sentence where an algorithm does not learn with such a source of values."""
    name, takes = NAMES[type(values)], algorithm.values_from
    if name not in takes:
        other = " or ".join(takes)
        yield (
            f"{prefix}values is {name}, but {type(algorithm).title} learns with values={other}"
            f"{': its baseline is elsewhere' if takes == ('none',) else ''}. "
            f"Set {prefix}values={takes[0]}."
        )
    if name != "critic" and getattr(algorithm, "value_steps", 0):
        yield (
            f"{prefix}algorithm.value_steps is {algorithm.value_steps}, but only a critic can "
            f"learn beside a policy that does not. Set it to 0, or {prefix}values=critic."
        )


def values_in(raw: Any, default: str, rates: tuple[float, float], adapted: bool) -> Any:
    """Values as a recipe may say them → a mapping; ``default`` is what the algorithm needs."""
    if raw is None:
        raw = default
    given = {"name": raw} if isinstance(raw, str) else raw
    if not isinstance(given, Mapping):
        return given
    given = {"name": default, **given}
    if given["name"] != "critic":
        return {key: value for key, value in given.items() if key not in ("init", "optimizer")}
    settings = with_rate(given.get("optimizer") or {}, rates, adapted=adapted)
    return {**given, "optimizer": settings}


def _from_scorer(context: StageContext, name: str) -> ValueModel:
    """A critic that starts by expecting the reward model's own normalised score."""
    weights, compute = context.masters
    judge = load_reward_model(name, precision=weights, template=context.template.source)
    if kind := context.recipe.quantization:
        context.say(f"the critic starts from {name}, whose weights are not held in {kind}")
    head = judge.score.weight[:1].detach() / judge.std[0]
    start = judge.mean[0] if judge.score.bias is None else judge.mean[0] - judge.score.bias[0]
    critic = ValueModel(context.adapted(judge.trunk.model), head=head, compute=compute)
    with torch.no_grad():
        critic.value.bias.fill_(float(-start / judge.std[0]))
    return critic
