"""A text whose passages are marked; it may stand alone, as an answer to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from backflip.errors import UserError
from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import Block, Json, Kind, PartValue, Wording
from backflip.feedback.kinds.fields import Answer, Index, Payload, Rubric, Strict, Text, Turn

AGREE = 0.5
"""F₁ over labelled characters that counts as agreement."""


class Spans(Payload):
    kind: str = "spans"
    prompt: tuple[Turn, ...] = ()
    answer: Answer


class Span(Strict):
    start: Index
    end: Index
    """Characters; the end is not part of it."""
    label: str


class SpanLabels(Strict):
    spans: tuple[Span, ...] = ()
    reason: Text = ""


class SpansForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = form.ANSWERED

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        known = ", ".join(settings.span_labels)
        hint = f"One a line: the label, a colon, and the passage as it stands. Labels: {known}."
        return [form.PROMPT, form.ANSWER, form.Control("marks", "Marked passages", hint=hint)]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        text = form.text_of(payload.get("answer"))
        lines = (
            f"{span.get('label')}: {text[span.get('start') : span.get('end')]}"
            for span in form.as_maps(value.get("spans"))
        )
        return form.prompt_and_answer(payload) | {"marks": "\n".join(lines)}

    def finish(
        self, touched: set[str], given: form.Texts, payload: form.Data, value: form.Data
    ) -> None:
        """Passages are looked for anew where the answer changed: their places may be others."""
        if not touched & {"marks", "answer"}:
            return
        text, found = form.text_of(payload.get("answer")), list[form.Data]()
        for line in filter(str.strip, given["marks"].split("\n")):
            label, colon, passage = line.partition(":")
            many = text.count(passage.strip()) if colon and passage.strip() else 0
            if many != 1:
                why = "stands nowhere in the answer" if not many else f"stands {many} times in it"
                raise UserError(
                    f"marked passages: {passage.strip()[:60]!r} {why}; write “label: passage”, as "
                    "it stands, and enough of it to be one place."
                )
            start = text.index(passage.strip())
            end = start + len(passage.strip())
            found.append({"start": start, "end": end, "label": label.strip()})
        value["spans"] = found


class SpansKind(Kind[Spans, SpanLabels]):
    name, place = "spans", 7
    payload, value = Spans, SpanLabels
    form = SpansForm()
    column = "answer"
    settings = ("span_labels",)
    fewest = 1
    wording = Wording(
        title="Mark passages",
        description="Label what is wrong, where it is wrong",
        row='{"prompt": "Name a river.", "answer": {"text": "…"}}',
        subject="on whether a label is used at all",
        unit=("label of an item", "labels of items"),
        answers="Judgements",
        values=("not marked", "marked", "not marked"),
    )

    def fault(self, value: SpanLabels, payload: Spans, settings: Rubric) -> str:
        length = len(payload.answer.text)
        for span in value.spans:
            if span.label not in settings.span_labels:
                known = ", ".join(settings.span_labels)
                return f"there is no label {span.label!r}; this project has {known}"
            if not span.start < span.end <= length:
                place = f"span {span.start} to {span.end}"
                return f"{place} does not lie in a text of {length} characters"
        return ""

    def settings_faults(self, settings: Rubric) -> list[str]:
        if settings.span_labels:
            return []
        return ["spans need span_labels: the names that a rater may give to a passage"]

    def same_as(self, gold: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
        return _f1(gold["spans"], value["spans"]) >= AGREE

    def part_names(self, payload: Spans, settings: Rubric) -> list[str]:
        return list(settings.span_labels)

    def values(
        self, value: Mapping[str, Any], order: Sequence[int], settings: Rubric, attribute: str = ""
    ) -> list[PartValue]:
        """Whether a label was used at all."""
        used = {span["label"] for span in value["spans"]}
        return [PartValue(label, float(label in used)) for label in settings.span_labels]

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("text", payload["answer"]["text"], "characters")]

    def from_replies(self, prompt: list[Json], answers: list[Json]) -> Iterable[Json]:
        return ({"prompt": prompt, "answer": answer} for answer in answers)

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        return ", ".join(f"{s['label']} {s['start']}–{s['end']}" for s in value["spans"]) or "–"


def _f1(gold: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]) -> float:
    wanted, seen = _characters(gold), _characters(given)
    if not wanted and not seen:
        return 1.0
    return 2 * len(wanted & seen) / (len(wanted) + len(seen))


def _characters(spans: Sequence[Mapping[str, Any]]) -> set[tuple[int, str]]:
    return {(place, span["label"]) for span in spans for place in range(span["start"], span["end"])}


KIND = SpansKind()
