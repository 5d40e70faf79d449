"""What another tool must be told to show an export: fields, questions, a labelling page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from backflip.feedback.kinds.settings import ProjectSettings

VERDICTS = ("tie", "both_bad", "cannot_tell")


def argilla_settings(settings: ProjectSettings, *, widest: int = 2) -> dict[str, Any]:
    """Fields and questions for ``rg.Settings``, as plain JSON.

    ``widest``: answers of the item that has most. Argilla takes a ranking only where it ranks all
    answers of its question, so of items with fewer it will take the texts alone.
    """
    kind = settings.kind
    responses = {"compare": 2, "rank": widest, "write": 0}.get(kind, 1)
    names = [f"response_{place}" for place in range(1, responses + 1)]
    names += ["draft"] if kind == "write" else []
    fields = [{"name": "prompt", "type": "chat", "required": True}]
    fields += [
        {"name": n, "type": "text", "required": kind not in ("rank", "write")} for n in names
    ]
    return {"fields": fields, "questions": _questions(settings, names)}


def _questions(settings: ProjectSettings, names: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    match settings.kind:
        case "compare":
            found = [
                {"name": "preference", "type": "label", "labels": [*names, *VERDICTS]},
                {"name": "strength", "type": "rating", "values": _points(1, settings.levels)},
            ]
        case "rank":
            found = [{"name": "ranking", "type": "ranking", "values": list(names)}]
        case "rate":
            found = [
                {"name": a.name, "type": "rating", "values": _points(a.low, a.high)}
                for a in settings.attributes
            ]
        case "thumbs":
            found = [{"name": "thumb", "type": "label", "labels": ["up", "down"]}]
        case "write":
            found = [
                {"name": "response", "type": "text"},
                {"name": "edited", "type": "label", "labels": ["yes", "no"]},
            ]
        case _:
            labels = list(settings.span_labels)
            marks = {"field": "response_1", "labels": labels, "allow_overlapping": True}
            found = [{"name": "spans", "type": "span", **marks}]
    return [*found, {"name": "reason", "type": "text", "required": False}]


def _points(low: int, high: int) -> list[int]:
    return list(range(low, high + 1))


def label_studio_config(settings: ProjectSettings) -> str:
    """A labelling page for the tasks of an export."""
    prompt = (
        '<Paragraphs name="prompt" value="$prompt" layout="dialogue" nameKey="role" '
        'textKey="content"/>'
    )
    one = '<Text name="answer1" value="$answer1"/>'
    match settings.kind:
        case "compare":
            parts = [
                prompt,
                '<Pairwise name="preference" toName="answer1,answer2"/>',
                one,
                '<Text name="answer2" value="$answer2"/>',
                _rating("strength", "prompt", settings.levels),
                _choices("verdict", "prompt", VERDICTS),
            ]
        case "rank":
            parts = [
                prompt,
                '<List name="items" value="$items" title="Answers"/>',
                '<Ranker name="ranking" toName="items"/>',
            ]
        case "rate":
            parts = [prompt, one]
            parts += [_rating(a.name, "answer1", a.high) for a in settings.attributes]
        case "thumbs":
            parts = [prompt, one, _choices("thumb", "answer1", ("up", "down"))]
        case "write":
            parts = [
                prompt,
                '<TextArea name="response" toName="prompt"/>',
                _choices("edited", "prompt", ("yes", "no")),
            ]
        case _:
            labels = "".join(f"<Label value={quoteattr(n)}/>" for n in settings.span_labels)
            parts = [prompt, f'<Labels name="spans" toName="answer1">{labels}</Labels>', one]
    return "\n".join(["<View>", *parts, '<TextArea name="reason" toName="prompt"/>', "</View>"])


def _rating(name: str, to: str, most: int) -> str:
    return f'<Rating name={quoteattr(name)} toName="{to}" maxRating="{most}"/>'


def _choices(name: str, to: str, values: Sequence[str]) -> str:
    inside = "".join(f'<Choice value="{value}"/>' for value in values)
    return f'<Choices name="{name}" toName="{to}">{inside}</Choices>'
