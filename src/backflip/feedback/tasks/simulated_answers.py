"""Simulated raters in front of real items: texts to judge, and answers as a page would send them.

How good an answer is, is a hash of prompt and text: anything that raters can be shown has a truth,
without a table of truths anywhere, and the same text is as good in every project. ``Bench`` holds
a population in front of some items; it answers displayed payloads in displayed order, so that a
driver needs to know no more than a browser does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit, ndtri

from backflip.feedback.kinds.compare import KIND
from backflip.feedback.kinds.fields import Payload
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.kinds.respondent import Respondent
from backflip.feedback.statistics.gauges import contrasts
from backflip.feedback.statistics.judgements import Floats, Ints
from backflip.feedback.statistics.simulate import (
    Asked,
    Items,
    Population,
    answers,
    seconds,
    uniform,
)
from backflip.feedback.tasks.display import seed_of
from backflip.feedback.tasks.identity import sides_of
from backflip.feedback.tasks.items import payload_of
from backflip.feedback.tasks.settings import ProjectSettings

WORDS = (
    "the a one each every this that river garden letter morning engine window harbour teacher "
    "answer reason number paper colour market station kitchen forest winter bridge machine story "
    "keeps finds opens follows carries explains measures repeats begins changes holds needs before "
    "after because although while quickly slowly often rarely clearly nearly alone again together"
)
LONG, SPREAD, LISTED = 70, 0.5, 0.35
"""Words of a written answer: median, standard deviation of its logarithm; share that are lists."""


@dataclass(frozen=True)
class Bench:
    """A population, and the truth of the items in front of it."""

    population: Population
    items: Items
    place: Mapping[frozenset[int], int]
    """Which item has these two answers (their numbers in ``identity.sides_of``)."""
    numbers: Ints
    """[I, 2] The answers of each item, in its own order."""
    seed: int

    @classmethod
    def of(
        cls,
        population: Population,
        payloads: Sequence[Payload | dict[str, Any]],
        *,
        seed: int = 0,
        length_quality: float = 0.3,
        contested: float = 0.0,
    ) -> Bench:
        """Pairs and clips. ``length_quality`` is the slope of quality on length, as in
        ``Items``.
        """
        sides = [sides_of(_read(payload)) for payload in payloads]
        numbers = np.array([[s.number for s in pair] for pair in sides], np.int64).reshape(-1, 2)
        features = {
            "length": np.array([a.length - b.length for a, b in sides], np.float64),
            "lists": np.array([a.lists - b.lists for a, b in sides], np.float64),
        }
        apart = (quality(numbers[:, 0], seed=seed) - quality(numbers[:, 1], seed=seed)) / np.sqrt(2)
        margin = apart + length_quality * contrasts(features)["length"]
        keys = numbers[:, 0] ^ numbers[:, 1]
        items = Items(
            margin=margin / max(float(np.sqrt((margin**2).mean())), 1e-12)
            if len(margin)
            else margin,
            features=features,
            contested=np.asarray(uniform(seed, 12, keys) < contested),
            keys=keys,
        )
        place = {frozenset(pair): i for i, pair in enumerate(numbers.tolist())}
        return cls(population, items, place, numbers, seed)

    def answer(
        self,
        displayed: Payload | dict[str, Any],
        rater: int,
        settings: ProjectSettings,
        *,
        hours: float = 0.0,
        times: int = 0,
    ) -> tuple[dict[str, Any], float]:
        """The answer of a rater to a page, in the page's order, and the seconds that it took.

        ``hours`` since the session began tire; ``times`` counts how often the rater was asked this
        before. Pairs and clips must be of this bench; items of the other kinds may be anything.
        Raises ValueError where there is nothing to go by.
        """
        payload = _read(displayed, settings.kind)
        kind = kind_of(settings.kind)
        return kind.simulate(_Question(self, rater, hours, times), payload, settings)


@dataclass(frozen=True)
class _Question(Respondent):
    """One question to one rater."""

    bench: Bench
    rater: int
    hours: float
    times: int

    def preference(self, payload: Payload, levels: int, *, ties: bool) -> tuple[float, float]:
        shown = [side.number for side in sides_of(payload)]
        item = self.bench.place.get(frozenset(shown))
        if item is None:
            raise ValueError("This pair is not among those that the simulated raters were told of.")
        first = 1.0 if self.bench.numbers[item, 0] == shown[0] else -1.0
        asked = Asked(
            item=np.array([item]),
            rater=np.array([self.rater]),
            first=np.array([first]),
            hours=np.array([self.hours]),
            times=np.array([self.times]),
        )
        people, items = self.bench.population, self.bench.items
        said = float(answers(people, items, asked, levels=levels)[0]) * first
        taken = float(seconds(people, items, asked)[0])
        if said == 0 and not ties:  # nobody may say so: a coin
            said = 1 / levels if self._chance(5, item) < 0.5 else -1 / levels
        return said, taken

    def ranking(self, payload: Payload) -> tuple[list[int], float]:
        """Scores with Gumbel noise: of any two, the first wins with chance σ(difference)."""
        numbers = np.array([side.number for side in sides_of(payload)])
        count = len(numbers)
        score = self._sharp * quality(numbers, seed=self.bench.seed) / np.sqrt(2)
        noise = uniform(self.bench.population.seed, 6, self.rater, numbers, self.times)
        place = 0.5 - np.arange(count) / max(1, count - 1)
        score += self._habit("prefers_first") * place - np.log(-np.log(noise))
        ranks = np.empty(count, np.int64)
        ranks[np.argsort(-score, kind="stable")] = np.arange(count)
        return ranks.tolist(), self._pace(int(numbers[0])) * count / 2

    def qualities(self, payload: Payload, texts: Sequence[str]) -> tuple[list[float], float]:
        prompt = payload.model_dump(mode="json").get("prompt")
        numbers = np.array([seed_of(prompt, text) for text in texts])
        seen = quality(numbers, seed=self.bench.seed)
        noise = logit(uniform(self.bench.population.seed, 7, self.rater, numbers, self.times))
        seen = seen + noise / max(abs(self._sharp), 0.3) * np.sign(self._sharp or 1.0)
        return seen.tolist(), self._pace(int(numbers[0]))

    @property
    def _sharp(self) -> float:
        people = self.bench.population
        tired = np.exp(-people.fatigue[self.rater] * self.hours)
        return float(people.sharp[self.rater] * tired)

    def _habit(self, name: str) -> float:
        return float(logit(getattr(self.bench.population, name)[self.rater]))

    def _chance(self, purpose: int, key: int) -> float:
        return float(uniform(self.bench.population.seed, purpose, self.rater, key, self.times))

    def _pace(self, key: int) -> float:
        return float(
            self.bench.population.seconds[self.rater] * np.exp(ndtri(self._chance(3, key)) / 2)
        )


def quality(numbers: Ints, *, seed: int = 0) -> Floats:
    """How good answers are, N(0, 1)."""
    return ndtri(uniform(seed, 11, numbers))


def write_pairs(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs to compare, of words without sense, some of them as lists: for demos and load tests."""
    rng = np.random.default_rng([seed, 5])
    return [
        {
            "kind": KIND.name,
            "prompt": [{"role": "user", "content": f"Question {i + 1}: {_line(rng, 9)}?"}],
            "answers": [{"text": _text(rng), "source": source} for source in ("one", "other")],
        }
        for i in range(count)
    ]


def _text(rng: np.random.Generator) -> str:
    words = max(8, int(rng.lognormal(np.log(LONG), SPREAD)))
    lines = [_line(rng, 12) + "." for _ in range(max(1, words // 12))]
    if rng.random() < LISTED and len(lines) > 1:
        return "\n".join([lines[0], *(f"- {line}" for line in lines[1:])])
    return " ".join(lines)


def _line(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS.split(), words)).capitalize()


def _read(payload: Payload | dict[str, Any], kind: str = KIND.name) -> Payload:
    """A displayed payload is one like any other, but for its sources."""
    return payload_of(payload, payload.get("kind", kind)) if isinstance(payload, dict) else payload
