"""Thumbs: answers called good or bad."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from backflip.data.records import BadRecordError, Comparison, Demonstration, Labelled
from backflip.data.thumbs import thumb
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.feedback.exchange.mapping import Converters, KindMapping, ToolQuestion
from backflip.feedback.exchange.records import LabelledRecord, Source
from backflip.feedback.exchange.tool_parts import ANSWER, PROMPT, choices, result
from backflip.feedback.exchange.tool_values import WHY, Read, Values, seen
from backflip.feedback.exchange.verdicts import toss, votes
from backflip.feedback.tasks.settings import ProjectSettings

WORDS = ("up", "down")


def thumbed(source: Source) -> Iterator[LabelledRecord]:
    """Answers called good or bad."""
    for answered in source.items():
        payload = answered.payload
        for vote in votes(source, answered):
            if vote.side not in (1.0, -1.0):
                toss(source, answered, vote)
                continue
            found = replace(vote.evidence, sources=(payload.answer.source,))
            good = vote.side > 0
            yield from source.label(answered, payload.prompt, payload.answer.text, good, found)


def _scores(source: Source, answered: AnsweredItem) -> Mapping[str, float]:
    """2P(up) − 1."""
    verdict = source.verdict(answered)
    score = math.nan if verdict is None else 2 * verdict.p_first - 1
    return {answered.payload.answer.text.strip(): score}


class ThumbsQuestion(ToolQuestion):
    def read(self, values: Values, names: Sequence[str], settings: ProjectSettings) -> Read:
        for name, value in values.items():
            if name not in WHY and isinstance(value, str | int | float):
                try:
                    return {"up": thumb(name, value)}, {name}
                except BadRecordError:
                    continue
        raise BadRecordError("no answer is a thumb", f"seen: {seen(values)}")

    def questions(self, settings: ProjectSettings, names: Sequence[str]) -> list[dict[str, Any]]:
        return [{"name": "thumb", "type": "label", "labels": list(WORDS)}]

    def responses(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {"thumb": "up" if value["up"] else "down"}

    def page(self, settings: ProjectSettings) -> list[str]:
        return [PROMPT, ANSWER, choices("thumb", "answer1", WORDS)]

    def results(
        self, value: Mapping[str, Any], payload: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        word = "up" if value["up"] else "down"
        yield result("thumb", "answer1", "choices", {"choices": [word]})


class ThumbsMapping(KindMapping):
    converters: ClassVar[Converters] = {Labelled: thumbed}
    readable = (Labelled, Demonstration, Comparison)
    formats = ("unpaired", "kto")
    rewards = True
    question = ThumbsQuestion()
    scored = True

    def scores(self, source: Source, answered: AnsweredItem) -> Mapping[str, float]:
        return _scores(source, answered)

    def known(self, good: bool) -> dict[str, Any] | None:
        return {"up": good}


MAPPING = ThumbsMapping()
