"""Written replies: demonstrations, and drafts that were made better.

Every text is one rater's own, so nothing is aggregated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Messages,
    Prompt,
    Provenance,
)
from backflip.feedback.exchange.mapping import Converters, KindMapping, ToolQuestion, text_of
from backflip.feedback.exchange.records import LabelledRecord, Source, reply, turns
from backflip.feedback.exchange.tool_parts import PROMPT, choices, result
from backflip.feedback.exchange.tool_values import WHY, Read, Values, seen
from backflip.feedback.exchange.verdicts import own_words
from backflip.feedback.rating.items import NewItem
from backflip.feedback.tasks.settings import ProjectSettings


def written(source: Source) -> Iterator[LabelledRecord]:
    """Replies to imitate."""
    for answered in source.items():
        payload = answered.payload
        for answer in answered.said:
            record = source.attempt(
                answered, partial(_whole, turns(payload.prompt), answer.value["text"])
            )
            if record is not None:
                yield LabelledRecord(record, own_words(source, answered, answer, (answer.person,)))


def _whole(prompt: Messages, text: str, where: Provenance) -> Demonstration:
    return Demonstration(prompt + reply(text), where=where)


def improved(source: Source) -> Iterator[LabelledRecord]:
    """Drafts that were made better: the better text above the draft."""
    for answered in source.items():
        payload = answered.payload
        for answer in answered.said:
            text, draft = answer.value["text"], payload.draft
            if draft is None or not answer.value["from_draft"]:
                source.accounting.drop("written without a draft", answered.item.id)
                continue
            if text.strip() == draft.text.strip():
                source.accounting.drop("the draft was left as it was", answered.item.id)
                continue
            record = source.comparison(answered, turns(payload.prompt), [text, draft.text], (0, 1))
            if record is not None:
                sources = (answer.person, draft.source)
                yield LabelledRecord(record, own_words(source, answered, answer, sources))


# ---- other tools


class WriteQuestion(ToolQuestion):
    needed, required = 0, False

    def payload(self, answers: list[dict[str, Any]]) -> dict[str, Any]:
        return {"draft": answers[0]} if answers else {}

    def read(self, values: Values, names: Sequence[str], settings: ProjectSettings) -> Read:
        for name, value in values.items():
            if isinstance(value, str) and value.strip() and name not in (*WHY, "edited"):
                edited = values.get("edited")
                from_draft = bool(names) if edited is None else edited in (True, "yes", "true")
                return {"text": value, "from_draft": from_draft and bool(names)}, {name, "edited"}
        raise BadRecordError("no answer is a text", f"seen: {seen(values)}")

    def texts(self, widest: int) -> list[str]:
        return ["draft"]

    def questions(self, settings: ProjectSettings, names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"name": "response", "type": "text"},
            {"name": "edited", "type": "label", "labels": ["yes", "no"]},
        ]

    def responses(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {"response": value["text"], "edited": "yes" if value["from_draft"] else "no"}

    def page(self, settings: ProjectSettings) -> list[str]:
        return [
            PROMPT,
            '<TextArea name="response" toName="prompt"/>',
            choices("edited", "prompt", ("yes", "no")),
        ]

    def results(
        self, value: Mapping[str, Any], payload: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        yield result("response", "prompt", "textarea", {"text": [value["text"]]})
        edited = "yes" if value["from_draft"] else "no"
        yield result("edited", "prompt", "choices", {"choices": [edited]})


class WriteMapping(KindMapping):
    converters: ClassVar[Converters] = {Demonstration: written, Comparison: improved}
    readable = (Prompt, Demonstration, Labelled, Comparison)
    formats = ("preference", "soft", "hh", "demonstrations")
    question = WriteQuestion()
    text_field = "draft"

    def from_comparison(self, record: Comparison, *, gold: bool) -> Iterator[NewItem]:
        """The worst answer as the draft."""
        worst = record.rank.index(max(record.rank))
        yield self.single(record.prompt, text_of(record.answers[worst]))


MAPPING = WriteMapping()
