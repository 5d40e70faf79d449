"""Several sources of reward in one, as settings: their sum, or one of them by a rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.data.records import Prompt
from backflip.reward.mix import Mix
from backflip.reward.protocol import RewardSource
from backflip.reward.several import Gate, Lexicographic, MaxMin
from backflip.reward.verifiers.base import Verifier
from backflip.stages.choices import NAMES
from backflip.stages.rewards.context import RewardContext, RewardSettings
from backflip.stages.rewards.functions import Function

__all__ = [
    "SEVERAL",
    "GateOfRewards",
    "LexicographicRewards",
    "MaxMinOfRewards",
    "MixOfRewards",
    "SeveralRewards",
]


@dataclass(frozen=True, kw_only=True)
class SeveralRewards(RewardSettings):
    """Several sources, each watched under its name."""

    terms: tuple[Any, ...]
    """Sources of reward, each with settings of its own."""

    whole_episodes: ClassVar[bool] = True
    reads_models: ClassVar[bool] = True
    """Its terms see to it themselves."""

    @property
    def uses_policy(self) -> bool:
        return any(term.uses_policy for term in self.terms)

    def scorers(self) -> list[str]:
        return [model for term in self.terms for model in term.scorers()]

    def lacks(self, record: Prompt) -> str:
        return next(filter(None, (term.lacks(record) for term in self.terms)), "")

    def final(self, answer: str) -> str | None:
        """That of the verifier that says which answers are right, or else of the first term."""
        return self.terms[self._checking() or 0].final(answer)

    def faults(self, where: str) -> Iterator[str]:
        for number, term in enumerate(self.terms, start=1):
            yield from term.faults(f"{where}.terms[{number}]")

    def build(self, given: RewardContext) -> RewardSource:
        names = [name_of(term) for term in self.terms]
        numbered = [n if names.count(n) == 1 else f"{n}_{i}" for i, n in enumerate(names, 1)]
        built = {n: given.source(term) for n, term in zip(numbered, self.terms, strict=True)}
        place = self._checking()
        whose = None if place is None else numbered[place]
        if whose and sum(isinstance(term, Verifier) for term in self.terms) > 1:
            given.context.say(f"accuracy is by the verdicts of {whose}, one of several verifiers.")
        return self.combined(built, whose, given)

    def combined(
        self, built: Mapping[str, RewardSource], verdicts: str | None, given: RewardContext
    ) -> RewardSource:
        """All of them as one. ``verdicts``: the source that says which answers are right."""
        raise NotImplementedError

    def _checking(self) -> int | None:
        """The place of the term that says which answers are right, where there is a verifier.

        The first that compares with a reference answer or runs tests, or else the first of all.
        """
        found = [i for i, term in enumerate(self.terms) if isinstance(term, Verifier)]
        asking = [i for i in found if self.terms[i].needs_reference or self.terms[i].needs_columns]
        return next(iter(asking or found), None)


@dataclass(frozen=True, kw_only=True)
class MixOfRewards(SeveralRewards):
    """Σ weight · reward over several sources, each watched under its name."""

    weights: tuple[float, ...]
    """One for each term."""
    clip: float | None = None
    """Scores of each term beyond ±clip are cut to it, before they are weighed."""
    whiten: bool = False
    """Whether scores of each term get mean 0 and deviation 1 over a step's answers."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Sums of the terms' own, where each term has some."""
        ends = [term.bounds for term in self.terms]
        if self.whiten or None in ends:
            return None
        most = math.inf if self.clip is None else self.clip
        weighed = [
            sorted(weight * min(max(end, -most), most) for end in pair)
            for weight, pair in zip(self.weights, ends, strict=True)
        ]
        return sum(low for low, _ in weighed), sum(high for _, high in weighed)

    def faults(self, where: str) -> Iterator[str]:
        for number, weight in enumerate(self.weights, start=1):
            if not math.isfinite(weight):
                yield f"{where}.weights[{number}] is {weight:g}; it must be a finite number."
        if self.clip is not None and not self.clip > 0:
            yield f"{where}.clip is {self.clip:g}; it must be above 0."
        yield from super().faults(where)

    def combined(
        self, built: Mapping[str, RewardSource], verdicts: str | None, given: RewardContext
    ) -> Mix:
        return Mix(built, self.weights, self.clip, verdicts=verdicts, whiten=self.whiten)


@dataclass(frozen=True, kw_only=True)
class GateOfRewards(SeveralRewards):
    """Two sources: the first where it finds an answer bad, or the prompt asks; else the second
    (Llama 2: Touvron et al., 2023, section 3.2.3).
    """

    below: float = -1.734601
    """Score of the first below which it speaks; a probability of 0.15 of a reward model's."""
    column: str | None = None
    """Column that is true for prompts that are the first one's affair; null: none is."""
    whiten: bool = True
    """Whether scores get mean 0 and deviation 1 over a step's answers."""

    def faults(self, where: str) -> Iterator[str]:
        if len(self.terms) != 2:
            yield f"{where}.terms has {len(self.terms)}; a gate has two: the guard and the other."
        if math.isnan(self.below):
            yield f"{where}.below is no number."
        yield from super().faults(where)

    def lacks(self, record: Prompt) -> str:
        if self.column is not None and self.column not in record.info:
            return f"no column {self.column}, by which the gate goes"
        return super().lacks(record)

    def combined(
        self, built: Mapping[str, RewardSource], verdicts: str | None, given: RewardContext
    ) -> Gate:
        column = self.column
        asks = None if column is None else lambda record: _true(record.info[column])
        how = {"whiten": self.whiten, "verdicts": verdicts}
        return Gate(built, self.below, asks, given.records, **how)


@dataclass(frozen=True, kw_only=True)
class LexicographicRewards(SeveralRewards):
    """Sources in order of rank: each counts where all before it reach their floors."""

    floors: tuple[float, ...]
    """Scores that satisfy each term but the last."""

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, len(self.floors) + 1.0

    def faults(self, where: str) -> Iterator[str]:
        if len(self.floors) != len(self.terms) - 1:
            yield (
                f"{where}.floors has {len(self.floors)} for {len(self.terms)} terms; every term "
                "but the last has one."
            )
        yield from super().faults(where)

    def combined(
        self, built: Mapping[str, RewardSource], verdicts: str | None, given: RewardContext
    ) -> Lexicographic:
        del given
        return Lexicographic(built, self.floors, verdicts)


@dataclass(frozen=True, kw_only=True)
class MaxMinOfRewards(SeveralRewards):
    """In each step the source whose mean score is lowest, such as that of the raters' group that is
    worst off (MaxMin-RLHF: Chakraborty et al., 2024).
    """

    @property
    def bounds(self) -> tuple[float, float] | None:
        ends = [term.bounds for term in self.terms]
        if None in ends:
            return None
        return min(low for low, _ in ends), max(high for _, high in ends)

    def combined(
        self, built: Mapping[str, RewardSource], verdicts: str | None, given: RewardContext
    ) -> MaxMin:
        del given
        return MaxMin(built, verdicts)


SEVERAL: dict[str, type[SeveralRewards]] = {
    "mix": MixOfRewards,
    "gate": GateOfRewards,
    "lexicographic": LexicographicRewards,
    "maxmin": MaxMinOfRewards,
}
"""Ways in which several sources are one, by the name that a recipe gives."""


def name_of(term: Any) -> str:
    """A word for a source among others: the function's name, or its kind."""
    if isinstance(term, Function) and ":" in term.path:
        return term.path.rpartition(":")[2]
    return NAMES[type(term)]


def _true(value: Any) -> bool:
    """Whether a column says yes, as files of several formats write it."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "yes", "1")
    return bool(value)
