"""A weighted mix of sources of reward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.data.records import Prompt
from backflip.reward.protocol import Mix, RewardSource
from backflip.stages.choices import NAMES
from backflip.stages.rewards.context import PYTHON, RewardContext
from backflip.stages.rewards.functions import Function

__all__ = ["MixOfRewards"]


@dataclass(frozen=True, kw_only=True)
class MixOfRewards:
    """Σ weight · reward over several sources, each watched under its name."""

    terms: tuple[Any, ...]
    """Sources of reward, each with settings of its own."""
    weights: tuple[float, ...]
    """One for each term."""

    whole_episodes: ClassVar[bool] = True
    """Its terms see to it themselves."""

    @property
    def uses_policy(self) -> bool:
        return any(term.uses_policy for term in self.terms)

    def scorers(self) -> list[str]:
        return [model for term in self.terms for model in term.scorers()]

    def lacks(self, record: Prompt) -> str:
        return next(filter(None, (term.lacks(record) for term in self.terms)), "")

    def faults(self, where: str) -> Iterator[str]:
        for number, weight in enumerate(self.weights, start=1):
            if not math.isfinite(weight):
                yield f"{where}.weights[{number}] is {weight:g}; it must be a finite number."
        for number, term in enumerate(self.terms, start=1):
            yield from term.faults(f"{where}.terms[{number}]")

    def build(self, given: RewardContext) -> RewardSource:
        names = [name_of(term) for term in self.terms]
        numbered = [n if names.count(n) == 1 else f"{n}_{i}" for i, n in enumerate(names, 1)]
        built = {n: given.source(term) for n, term in zip(numbered, self.terms, strict=True)}
        return Mix(built, self.weights)


def name_of(term: Any) -> str:
    """A word for a source among others: the function's name, or its kind."""
    if isinstance(term, Function) and term.path != PYTHON:
        return term.path.rpartition(":")[2]
    return NAMES[type(term)]
