"""Marked passages: in other tools, labels over the characters of a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from backflip.data.records import BadRecordError, Comparison, Demonstration, Labelled
from backflip.feedback.exchange.mapping import KindMapping, ToolQuestion
from backflip.feedback.exchange.tool_parts import ANSWER, PROMPT, result
from backflip.feedback.exchange.tool_values import Read, Values, seen
from backflip.feedback.tasks.settings import ProjectSettings

PARTS = ("start", "end", "label")


class SpansQuestion(ToolQuestion):
    alone = True

    def read(self, values: Values, names: Sequence[str], settings: ProjectSettings) -> Read:
        for name, value in values.items():
            if isinstance(value, list) and all(
                isinstance(span, Mapping) and set(PARTS) <= set(span) for span in value
            ):
                return {"spans": [{part: span[part] for part in PARTS} for span in value]}, {name}
        raise BadRecordError("no answer marks passages", f"seen: {seen(values)}")

    def settings(self, used: Any) -> dict[str, Any]:
        return {"span_labels": list(used.labels)}

    def questions(self, settings: ProjectSettings, names: Sequence[str]) -> list[dict[str, Any]]:
        labels = list(settings.span_labels)
        marks = {"field": "response_1", "labels": labels, "allow_overlapping": True}
        return [{"name": "spans", "type": "span", **marks}]

    def responses(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {"spans": value["spans"]}

    def page(self, settings: ProjectSettings) -> list[str]:
        labels = "".join(f"<Label value={quoteattr(n)}/>" for n in settings.span_labels)
        return [PROMPT, f'<Labels name="spans" toName="answer1">{labels}</Labels>', ANSWER]

    def results(
        self, value: Mapping[str, Any], payload: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        text = payload["answer"]["text"]
        for span in value["spans"]:
            start, end = span["start"], span["end"]
            passage = {"start": start, "end": end, "text": text[start:end]}
            yield result("spans", "answer1", "labels", passage | {"labels": [span["label"]]})


class SpansMapping(KindMapping):
    readable = (Demonstration, Labelled, Comparison)
    question = SpansQuestion()


MAPPING = SpansMapping()
