"""Ratings: answers to the same prompt in the order of their mean ratings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, ClassVar

from backflip.data.records import BadRecordError, Comparison, Demonstration, Labelled
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.feedback.exchange.mapping import Converters, KindMapping, ToolQuestion
from backflip.feedback.exchange.records import Evidence, LabelledRecord, Source, turns
from backflip.feedback.exchange.tool_parts import ANSWER, PROMPT, points, rating, result
from backflip.feedback.exchange.tool_values import Read, Values, seen, whole
from backflip.feedback.exchange.verdicts import count_shared
from backflip.feedback.statistics.consensus import even
from backflip.feedback.tasks.settings import ProjectSettings


@dataclass
class Rated:
    """An answer with what it was given, 0 to 1."""

    answered: AnsweredItem
    score: float
    ratings: dict[str, float]
    """Mean of each attribute, in its own units."""


def rated(source: Source) -> Iterator[LabelledRecord]:
    """Answers to the same prompt, the one with the highest mean rating first.

    Attributes are brought to 0 … 1 and averaged. A prompt with one rated answer compares nothing.
    """
    prompts: dict[str, list[Rated]] = {}
    for answered in source.items():
        payload = answered.payload
        turns_of = [[turn.role, turn.content] for turn in payload.prompt]
        key = json.dumps(turns_of)
        prompts.setdefault(key, []).append(mean_rating(source, answered))
    for answers in prompts.values():
        record = _by_rating(source, answers)
        if record is not None:
            yield record


def _by_rating(source: Source, answers: Sequence[Rated]) -> LabelledRecord | None:
    first = answers[0].answered
    if len(answers) < 2:
        source.accounting.drop("the only rated answer to its prompt", first.item.id)
        return None
    payloads = [rated.answered.payload for rated in answers]
    texts = [p.answer.text for p in payloads]
    split = frozenset(
        pair for pair in combinations(range(len(answers)), 2) if _even(source, answers, *pair)
    )
    rank = _by_score([round(rated.score, 9) for rated in answers], split)
    count_shared(source, rank, split)
    prompt = payloads[0]
    soft = 0.5 if rank == (0, 0) else 1.0
    record = source.comparison(first, turns(prompt.prompt), texts, rank, soft=soft)
    if record is None:
        return None
    more = {
        "scores": [rated.score for rated in answers],
        "ratings": [rated.ratings for rated in answers],
    }
    evidence = Evidence(
        tuple(rated.answered for rated in answers),
        tuple(answer for rated in answers for answer in rated.answered.said),
        sources=tuple(p.answer.source for p in payloads),
        known=all(rated.answered.truth is not None for rated in answers),
        split=split,
        more=more,
    )
    return LabelledRecord(record, evidence)


def _by_score(scores: Sequence[float], split: frozenset[tuple[int, int]]) -> tuple[int, ...]:
    """Places by score, the highest first; neighbours that are equal or split share one."""
    order = sorted(range(len(scores)), key=lambda k: -scores[k])
    rank, place = [0] * len(scores), 0
    for before, here in pairwise(order):
        pair = (min(before, here), max(before, here))
        place += scores[before] != scores[here] and pair not in split
        rank[here] = place
    return tuple(rank)


def _even(source: Source, answers: Sequence[Rated], i: int, j: int) -> bool:
    """Whether of the raters who rated both answers as many prefer one as the other."""
    mine, other = (answers[k].answered for k in (i, j))
    if mine.truth is not None or other.truth is not None:
        return False
    marks = {a.person: _scaled(source, a.value) for a in other.answers}
    gaps = [_scaled(source, a.value) - marks[a.person] for a in mine.answers if a.person in marks]
    return even([sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)])


def _scaled(source: Source, value: Mapping[str, Any]) -> float:
    """The mean of one rating over its attributes, each brought to 0 … 1."""
    given = [
        (value["ratings"][attribute.name] - attribute.low) / (attribute.high - attribute.low)
        for attribute in source.settings.attributes
        if attribute.name in value["ratings"]
    ]
    return sum(given) / len(given) if given else 0.5


def mean_rating(source: Source, answered: AnsweredItem) -> Rated:
    """The mean rating of an answer, or the known one."""
    values = [answered.truth] if answered.truth is not None else [a.value for a in answered.answers]
    means, scaled = dict[str, float](), list[float]()
    for attribute in source.settings.attributes:
        given = [v["ratings"][attribute.name] for v in values if attribute.name in v["ratings"]]
        if given:  # an attribute may be younger than the answers
            means[attribute.name] = mean = sum(given) / len(given)
            scaled.append((mean - attribute.low) / (attribute.high - attribute.low))
    return Rated(answered, sum(scaled) / len(scaled) if scaled else 0.5, means)


def _scores(source: Source, answered: AnsweredItem) -> Mapping[str, float]:
    """The mean rating, brought to −1 … 1."""
    text = answered.payload.answer.text.strip()
    return {text: 2 * mean_rating(source, answered).score - 1}


# ---- other tools


class RateQuestion(ToolQuestion):
    def read(self, values: Values, names: Sequence[str], settings: ProjectSettings) -> Read:
        numbers = {name: n for name, value in values.items() if (n := whole(value)) is not None}
        wanted = [attribute.name for attribute in settings.attributes]
        if len(wanted) == len(numbers) == 1:
            return {"ratings": {wanted[0]: next(iter(numbers.values()))}}, set(numbers)
        if not set(wanted) <= set(numbers):
            raise BadRecordError(
                "no rating for each attribute",
                f"wanted: {', '.join(wanted)}; seen: {seen(values)}",
            )
        return {"ratings": {name: numbers[name] for name in wanted}}, set(wanted)

    def settings(self, used: Any) -> dict[str, Any]:
        if not used.scales:
            return {}
        attributes = [
            {"name": name, "low": min(1, *numbers), "high": max(5, *numbers)}
            for name, numbers in used.scales.items()
        ]
        return {"attributes": attributes}

    def questions(self, settings: ProjectSettings, names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"name": a.name, "type": "rating", "values": points(a.low, a.high)}
            for a in settings.attributes
        ]

    def responses(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return dict(value["ratings"])

    def page(self, settings: ProjectSettings) -> list[str]:
        return [PROMPT, ANSWER, *(rating(a.name, "answer1", a.high) for a in settings.attributes)]

    def results(
        self, value: Mapping[str, Any], payload: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        for name, mark in value["ratings"].items():
            yield result(name, "answer1", "rating", {"rating": mark})


class RateMapping(KindMapping):
    converters: ClassVar[Converters] = {Comparison: rated}
    readable = (Demonstration, Labelled, Comparison)
    formats = ("rankings",)
    rewards = True
    question = RateQuestion()
    scored = True

    def scores(self, source: Source, answered: AnsweredItem) -> Mapping[str, float]:
        return _scores(source, answered)


MAPPING = RateMapping()
