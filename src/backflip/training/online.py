"""Online learning: act, judge, credit, learn. One loop for every algorithm and every policy."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
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
from backflip.training.ahead import Asked, staleness
from backflip.training.corrections import (
    Correction,
    NoCorrection,
    corrected,
    taken_for_its_own,
)
from backflip.training.gather import Gathering, gather
from backflip.training.learner import Learner, Work
from backflip.training.stopwatch import WAITING, Stopwatch
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
        """Act on the prompts, have it judged, learn from it; ``index`` numbers the step.

        ``prompts``: to be answered now, or a request that was made ahead.
        """
        began, busy = time.monotonic(), time.process_time()
        policy, clock = self.learner.model, Stopwatch()
        ahead = prompts if isinstance(prompts, Asked) else None
        gathered = (
            self.ask(index, prompts, clock=clock) if ahead is None else _awaited(ahead, clock)
        )
        self.unscored.update(gathered.failures)
        self.spent.add(gathered.drawn, gathered.signal, self.pool)
        rollouts, judgement = gathered.answers(gathered.wanted)
        with _reading((policy, self.reference), self._temperature(index)):
            with clock.part("scoring"):
                scored = self._judged(policy, rollouts, judgement, stale=ahead is not None)
            with clock.part("learning"):
                experience, metrics = corrected(self.algorithm.credit(scored), self.correction)
                metrics |= self._learn(experience, index)
        if ahead is None:  # else whoever draws ahead takes the weights when it is their turn
            with clock.part("sampling"):
                self.sampler.sync(policy)
        metrics |= {} if ahead is None else staleness(rollouts, index)
        metrics |= _told(scored, self.algorithm) | gathered.metrics()
        self.last = Report(experience, judgement, metrics, clock.shares())
        self.algorithm = self.algorithm.adapted(metrics)
        self.spent.minutes += (time.monotonic() - began) / 60
        self.spent.cpu_minutes += (time.process_time() - busy) / 60
        return metrics

    def ask(
        self,
        index: int,
        prompts: Any,
        version: int | None = None,
        *,
        clock: Stopwatch | None = None,
    ) -> Gathering:
        """Judged answers to the prompts of a step, by a sampler with the weights that it has now.

        ``version``: steps of learning behind these weights; all before this step, if not said. A
        sampler that gets weights in the middle of answers says it of each token.
        """
        clock, sampler = clock or Stopwatch(), _drawing(self.sampler, self._temperature(index))
        age = index - 1 if version is None else version

        def drawn(prompts: Any, seed: int) -> Rollouts:
            with clock.part("sampling"):
                return _answered(sampler, prompts, seed, age)

        judge, seed = clock.part("scoring")(self.reward), self.seed + 1_000_003 * index
        return gather(drawn, judge, prompts, self.pool, seed=seed)

    @property
    def over(self) -> str | None:
        """Why the run ends here: what its curriculum allows is spent."""
        return None if self.pool is None else self.spent.over(self.pool.curriculum)

    def _temperature(self, index: int) -> float | None:
        """The temperature of a step; None where it stays as it is."""
        params: Any = getattr(self.sampler, "params", None)
        if self.pool is None or self.pool.curriculum.temperature_end is None or params is None:
            return None
        return self.pool.curriculum.temperature(params.temperature, index, self.steps)

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

    def _judged(
        self, policy: Any, rollouts: Rollouts, judgement: Judgement, *, stale: bool = False
    ) -> Scored:
        """Everything that must be known before credit can be assigned.

        ``stale``: the answers may be of older weights than the policy's.
        """
        budget, old = self.learner.token_budget, rollouts.logp
        if stale or not taken_for_its_own(self.sampler, self.correction):
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
        for batch in minibatches(experience, self, index):
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


def minibatches(experience: Experience, loop: OnlineLoop, index: int) -> Iterator[Experience]:
    """Shuffled prompts, not rows: answers to one prompt share its tokens in the forest."""
    groups, count = experience.scored.rollouts.group, loop.minibatches
    names = cast("Tensor", torch.unique(groups))  # pyright: ignore[reportUnknownMemberType]
    for epoch in range(loop.algorithm.epochs):
        generator = torch.Generator().manual_seed(loop.seed + 7919 * index + epoch)
        order = names[torch.randperm(len(names), generator=generator)]
        for part in torch.chunk(order, count):
            yield experience if count == 1 else experience[torch.isin(groups, part)]


def _drawing(sampler: Any, temperature: float | None) -> Any:
    """Whoever draws, at another temperature."""
    if temperature is None:
        return sampler
    return replace(sampler, params=replace(sampler.params, temperature=temperature))


@contextmanager
def _reading(readers: Sequence[Any], temperature: float | None) -> Generator[None]:
    """Inside, readers read answers at the temperature that they were drawn at."""
    readers = readers if temperature is not None else ()
    before = [reader.temperature for reader in readers]
    for reader in readers:
        reader.temperature = temperature
    try:
        yield
    finally:
        for reader, was in zip(readers, before, strict=True):
            reader.temperature = was


def _answered(sampler: Any, prompts: Any, seed: int, age: int) -> Rollouts:
    """Answers with the numbers of their prompts' records, and the age of each choice: ``age`` where
    whoever draws does not say it.
    """
    named = isinstance(prompts, PromptBatch)
    given: Any = (prompts.tokens, {"rows": prompts.row}) if named else (prompts, {})
    answers = sampler(given[0], seed=seed, **given[1])
    told = answers.version if getattr(sampler, "renews", False) else age
    return replace(answers, version=torch.where(answers.mask, told, 0))


def _awaited(asked: Asked, clock: Stopwatch) -> Gathering:
    """The answers of a request."""
    with clock.part(WAITING):
        return asked.gathered()


def _told(scored: Scored, algorithm: OnlineAlgorithm) -> dict[str, float]:
    """Numbers of the answers of a step, and the price of their distance to the reference."""
    return {
        "kl": mean_kl(scored),
        "answers": float(len(scored.rollouts)),
        "reward": float(scored.total().mean()),
        "kl_coef": float(getattr(algorithm, "kl_coef", 0.0)),
    }


def mean_kl(scored: Scored) -> float:
    """KL(π‖ref) in nats an answer: the mean over answers of Σ (log π − log π_ref)."""
    return float(answer_kl(scored.logp_old, scored.logp_ref, scored.rollouts.mask).mean())
