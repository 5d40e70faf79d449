"""A weighted mix of sources of reward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.data.records import Prompt
from backflip.reward.mix import Mix
from backflip.reward.protocol import RewardSource
from backflip.reward.verifiers.base import Verifier
from backflip.stages.choices import NAMES
from backflip.stages.rewards.context import RewardContext, RewardSettings
from backflip.stages.rewards.functions import Function

__all__ = ["MixOfRewards"]


@dataclass(frozen=True, kw_only=True)
class MixOfRewards(RewardSettings):
    """Σ weight · reward over several sources, each watched under its name."""

    terms: tuple[Any, ...]
    """Sources of reward, each with settings of its own."""
    weights: tuple[float, ...]
    """One for each term."""
    clip: float | None = None
    """Scores of each term beyond ±clip are cut to it, before they are weighed."""
    whiten: bool = False
    """Whether scores of each term get mean 0 and deviation 1 over a step's answers."""

    whole_episodes: ClassVar[bool] = True
    reads_models: ClassVar[bool] = True
    """Its terms see to it themselves."""

    @property
    def uses_policy(self) -> bool:
        return any(term.uses_policy for term in self.terms)

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

    def scorers(self) -> list[str]:
        return [model for term in self.terms for model in term.scorers()]

    def lacks(self, record: Prompt) -> str:
        return next(filter(None, (term.lacks(record) for term in self.terms)), "")

    def _checking(self) -> int | None:
        """The place of the term that says which answers are right, where there is a verifier.

        The first that compares with a reference answer or runs tests, or else the first of all.
        """
        found = [i for i, term in enumerate(self.terms) if isinstance(term, Verifier)]
        asking = [i for i in found if self.terms[i].needs_reference or self.terms[i].needs_columns]
        return next(iter(asking or found), None)

    def final(self, answer: str) -> str | None:
        """That of the verifier that says which answers are right, or else of the first term."""
        return self.terms[self._checking() or 0].final(answer)

    def faults(self, where: str) -> Iterator[str]:
        for number, weight in enumerate(self.weights, start=1):
            if not math.isfinite(weight):
                yield f"{where}.weights[{number}] is {weight:g}; it must be a finite number."
        if self.clip is not None and not self.clip > 0:
            yield f"{where}.clip is {self.clip:g}; it must be above 0."
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
        return Mix(built, self.weights, self.clip, verdicts=whose, whiten=self.whiten)


def name_of(term: Any) -> str:
    """A word for a source among others: the function's name, or its kind."""
    if isinstance(term, Function) and ":" in term.path:
        return term.path.rpartition(":")[2]
    return NAMES[type(term)]
