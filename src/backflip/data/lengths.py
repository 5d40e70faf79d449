"""How long prompts and answers are, in tokens, or in words where there is no template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from backflip.data.chat import ChatTemplate, Turns
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Message,
    Messages,
    Prompt,
    Record,
    Solution,
    Tally,
    prompt_of,
)


class Sizes:
    """Every prompt and answer as a list of tokens, or of words where there is no template."""

    def __init__(self, records: Sequence[Record], template: ChatTemplate | None) -> None:
        self.unit = "tokens" if template else "words"
        self.refused = Tally()
        """Rows that the template cannot take; such rows have no length."""
        self.remedies: dict[str, str] = {}
        """Advice on a reason for which rows were refused."""
        self._unread: set[int] = set()
        self.parts = self._tokens(records, template) if template else [*map(_words, records)]

    def summary(self) -> dict[str, tuple[float, float, float, float]]:
        """Mean, median, 90th percentile and maximum, of rows that the template takes."""
        read = [part for place, part in enumerate(self.parts) if place not in self._unread]
        prompts = [len(prompt) for prompt, _ in read]
        answers = [len(answer) for _, answers in read for answer in answers]
        sizes = {"prompt": prompts, "answer": answers}
        return {name: _quantiles(values) for name, values in sizes.items() if values}

    def _tokens(self, records: Sequence[Record], template: ChatTemplate) -> list[Parts]:
        asked = iter(template.prompts([r.messages for r in records if isinstance(r, Prompt)]))
        flat = iter(template.answers([(prompt_of(r), a) for r in records for a in answers_of(r)]))
        out: list[Parts] = []
        for place, record in enumerate(records):
            alone = isinstance(record, Prompt)
            results = [next(asked)] if alone else [next(flat) for _ in answers_of(record)]
            errors = [result for result in results if isinstance(result, BadRecordError)]
            turns = [result for result in results if isinstance(result, Turns)]
            if errors:
                self.refused.add(errors[0].reason, record.where)
                self.remedies.setdefault(errors[0].reason, errors[0].advice)
                self._unread.add(place)
                out.append(_words(record))
            elif turns:
                out.append((turns[0].prompt, [turn.answer for turn in turns]))
            else:
                out.append((cast("list[int]", results[0]), []))
        return out


Parts: TypeAlias = tuple[Sequence[Any], list[Sequence[Any]]]


def answers_of(record: Record) -> list[Messages]:
    """All that an assistant says in answer to the record's prompt."""
    if isinstance(record, Comparison):
        return list(record.answers)
    if isinstance(record, Demonstration):
        return [record.messages[len(record.prompt) :]]
    if isinstance(record, Solution):
        return [record.answer()]
    return [record.answer] if isinstance(record, Labelled) else []


def _words(record: Record) -> Parts:
    def words(messages: Sequence[Message]) -> list[str]:
        return [word for message in messages for word in message.content.split()]

    return words(prompt_of(record)), [words(answer) for answer in answers_of(record)]


def _quantiles(values: Sequence[int]) -> tuple[float, float, float, float]:
    ordered = sorted(values)
    median, most = (float(ordered[round(q * (len(ordered) - 1))]) for q in (0.5, 0.9))
    return sum(ordered) / len(ordered), median, most, float(ordered[-1])
