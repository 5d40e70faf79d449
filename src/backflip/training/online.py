"""Online learning: act, judge, credit, learn. One loop for every algorithm and every policy."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from backflip.algorithms.base import Objective, OnlineAlgorithm
from backflip.data.batches import Experience, PromptBatch, Rollouts, Scored
from backflip.data.curriculum import PromptPool, Spent
from backflip.data.records import Tally
from backflip.distributed.reading import evaluate_all
from backflip.functional.kl import answer_kl
from backflip.functional.reductions import Loss
from backflip.reward.protocol import Judgement, RewardSource
from backflip.training.corrections import (
    Correction,
    NoCorrection,
    corrected,
    taken_for_its_own,
)
from backflip.training.gather import gather
from backflip.training.learner import Learner, Work
from backflip.training.stopwatch import Stopwatch
from backflip.training.values import ValueSource


@runtime_checkable
class Actor(Protocol):
    """Whoever lets the policy act on prompts: torch, vLLM, an environment.

    One whose ``exact`` is not True states other log-probabilities than the learner's.
    """

    def __call__(self, prompts: Any, *, seed: int, rows: Tensor | None = None) -> Rollouts:
        """``rows``: the number of each prompt's record, which the rollouts are to bear."""
        ...

    def sync(self, policy: Any) -> None:
        """Act with the policy's present weights from now on."""
        ...


@runtime_checkable
class Endless(Protocol):
    """Batches that never run out, and that know where they stand."""

    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, int]: ...
    def load_state_dict(self, state: Mapping[str, int]) -> None: ...


class PretrainingMix:
    """InstructGPT's γ·E[log π] on other text, against forgetting (Ouyang et al., 2022, eq. 2)."""

    def __init__(self, objective: Objective, batches: Endless) -> None:
        """``objective``: SFT with coef γ. ``batches``: demonstrations without end."""
        self.objective, self.batches = objective, batches

    def next(self) -> tuple[Work, ...]:
        """The next batch, as work for the learner."""
        return (Work(self.objective, next(iter(self.batches))),)


@dataclass(frozen=True)
class Report:
    """All that a step saw: for metrics, samples and alarms."""

    experience: Experience
    judgement: Judgement
    metrics: Mapping[str, float]
    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of its time: sampling, scoring (rewards, reference, values), learning, waiting."""


@dataclass
class OnlineLoop:
    """The roles of online RLHF, and the step that puts them together."""

    learner: Learner
    """Owns the policy and its optimiser."""
    reference: Any
    """Whom the policy should not stray far from."""
    sampler: Actor
    reward: RewardSource
    values: ValueSource
    algorithm: OnlineAlgorithm
    minibatches: int = 1
    """Optimiser steps in one pass over the experience."""
    seed: int = 0
    correction: Correction = field(default_factory=NoCorrection)
    """Weights of choices that another drew than the learner."""
    beside: PretrainingMix | None = None
    """What else is learnt in every optimiser step."""
    pool: PromptPool | None = None
    """The prompts of the run, from which a step may ask for more, and its curriculum."""
    steps: int = 0
    """Of the whole run: the length of a temperature schedule."""
    last: Report | None = field(default=None, repr=False)
    unscored: Tally = field(default_factory=Tally, repr=False)
    """Answers without a score, by reason, since the run was last started."""
    spent: Spent = field(default_factory=Spent, repr=False)

    def step(self, index: int, prompts: Any) -> dict[str, float]:
        """Act on the prompts, have it judged, learn from it; ``index`` numbers the step."""
        began, busy = time.monotonic(), time.process_time()
        policy = self.learner.model
        clock, seed = Stopwatch(), self.seed + 1_000_003 * index
        draw = clock.part("sampling")(self._answered)
        with self._at_temperature(index):
            judge = clock.part("scoring")(self.reward)
            gathered = gather(draw, judge, prompts, self.pool, seed=seed)
            self.unscored.update(gathered.failures)
            self.spent.add(gathered.drawn, gathered.signal, self.pool)
            rollouts, judgement = gathered.answers(gathered.wanted)
            with clock.part("scoring"):
                scored = self._judged(policy, rollouts, judgement)
            with clock.part("learning"):
                experience, metrics = corrected(self.algorithm.credit(scored), self.correction)
                metrics |= self._learn(experience, index)
        with clock.part("sampling"):
            self.sampler.sync(policy)
        metrics |= {"kl": mean_kl(scored), "answers": float(len(rollouts))}
        metrics |= {"reward": float(scored.total().mean())}
        metrics |= {"kl_coef": float(getattr(self.algorithm, "kl_coef", 0.0))}
        metrics |= gathered.metrics()
        self.last = Report(experience, judgement, metrics, clock.shares())
        self.algorithm = self.algorithm.adapted(metrics)
        self.spent.minutes += (time.monotonic() - began) / 60
        self.spent.cpu_minutes += (time.process_time() - busy) / 60
        return metrics

    @property
    def over(self) -> str | None:
        """Why the run ends here: what its curriculum allows is spent."""
        return None if self.pool is None else self.spent.over(self.pool.curriculum)

    @contextmanager
    def _at_temperature(self, index: int) -> Generator[None]:
        """The temperature of a step, for whoever draws and whoever reads what was drawn."""
        params: Any = getattr(self.sampler, "params", None)
        if self.pool is None or self.pool.curriculum.temperature_end is None or params is None:
            yield
            return
        now = self.pool.curriculum.temperature(params.temperature, index, self.steps)
        sampler, readers = cast("Any", self.sampler), (self.learner.model, self.reference)
        self.sampler = replace(sampler, params=replace(params, temperature=now))
        for reader in readers:
            reader.temperature = now
        try:
            yield
        finally:
            self.sampler = sampler
            for reader in readers:
                reader.temperature = params.temperature

    def _answered(self, prompts: Any, seed: int) -> Rollouts:
        """Answers, each with the number of its prompt's record."""
        if not isinstance(prompts, PromptBatch):
            return self.sampler(prompts, seed=seed)
        return self.sampler(prompts.tokens, seed=seed, rows=prompts.row)

    def state_dict(self) -> dict[str, Any]:
        values = getattr(self.values, "state_dict", None)
        return {
            "learner": self.learner.state_dict(),
            "values": values() if values else {},
            "algorithm": dataclasses.asdict(self.algorithm),
            "beside": self.beside.batches.state_dict() if self.beside else {},
            "spent": dataclasses.asdict(self.spent),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        if state["values"]:
            self.values.load_state_dict(state["values"])  # pyright: ignore
        if self.beside:
            self.beside.batches.load_state_dict(state["beside"])
        self.algorithm = type(self.algorithm)(**state["algorithm"])
        self.spent = Spent(**state.get("spent", {}))
        self.sampler.sync(self.learner.model)

    def _judged(self, policy: Any, rollouts: Rollouts, judgement: Judgement) -> Scored:
        """Everything that must be known before credit can be assigned."""
        budget, old = self.learner.token_budget, rollouts.logp
        if not taken_for_its_own(self.sampler, self.correction):
            old = evaluate_all(policy, rollouts, {"logp"}, budget)["logp"]
        return Scored(
            rollouts=rollouts,
            rewards=judgement.rewards(rollouts.mask),
            logp_old=old,
            logp_ref=evaluate_all(self.reference, rollouts, {"logp"}, budget)["logp"],
            values=self.values(policy, rollouts, judgement.scores),
            states=self.values.states(rollouts),
            ends=judgement.step_ends(rollouts.mask),
            terms=judgement.scores[:, None] if judgement.terms is None else judgement.terms,
            weights=judgement.weights,
        )

    def _learn(self, experience: Experience, index: int) -> dict[str, float]:
        """Several passes over the same experience, in shuffled minibatches of whole groups."""
        sums, done = dict[str, Loss](), False
        for batch in self._minibatches(experience, index):
            metrics = dict(self.values.learn(batch))
            if index > getattr(self.algorithm, "value_steps", 0):
                beside = self.beside.next() if self.beside else ()
                metrics |= self.learner.step(Work(self.algorithm, batch), *beside)
                done = self.algorithm.enough(metrics)
            for name, value in metrics.items():
                new = Loss(torch.tensor(value), torch.tensor(1.0))
                sums[name] = sums[name] + new if name in sums else new
            if done:
                break
        return {name: value.mean() for name, value in sums.items()}

    def _minibatches(self, experience: Experience, index: int) -> Iterator[Experience]:
        """Shuffle prompts, not rows: answers to one prompt share its tokens in the forest."""
        groups = experience.scored.rollouts.group
        names = cast("Tensor", torch.unique(groups))  # pyright: ignore[reportUnknownMemberType]
        for epoch in range(self.algorithm.epochs):
            generator = torch.Generator().manual_seed(self.seed + 7919 * index + epoch)
            order = names[torch.randperm(len(names), generator=generator)]
            for part in torch.chunk(order, self.minibatches):
                yield experience if self.minibatches == 1 else experience[torch.isin(groups, part)]


def mean_kl(scored: Scored) -> float:
    """KL(π‖ref) in nats an answer: the mean over answers of Σ (log π − log π_ref)."""
    return float(answer_kl(scored.logp_old, scored.logp_ref, scored.rollouts.mask).mean())
