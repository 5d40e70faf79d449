"""One row of data → the items that it holds: our own form, or any format that trains a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import UnionType
from typing import Any

from backflip.data.formats import Reader
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Message,
    Messages,
    Prompt,
    Record,
)
from backflip.data.rows import Format
from backflip.data.sources import Row
from backflip.errors import UserError
from backflip.feedback.kinds.examples import spelled_out
from backflip.feedback.kinds.settings import ProjectSettings
from backflip.feedback.rating.items import NewItem
from backflip.text import counted

OWN = {
    "compare": "answers",
    "rank": "answers",
    "rate": "answer",
    "thumbs": "answer",
    "write": "draft",
    "steps": "steps",
    "spans": "answer",
    "clips": "clips",
    "principles": "principle",
    "talk": "policies",
}
"""The column that tells an item of each kind from a row of another format."""
EXTRA: dict[str, tuple[type | UnionType, str]] = {
    "gold": (Mapping, "an answer, as an object"),
    "why": (str, "a text"),
    "priority": (int | float, "a number"),
    "route": (str, "a text such as language=de"),
    "warning": (str, "a text"),
}
"""Columns beside an item's own."""
NAMES = ("payload", *EXTRA, "item", "kind")
READABLE = {
    "compare": (Comparison,),
    "rank": (Comparison,),
    "rate": (Demonstration, Labelled, Comparison),
    "thumbs": (Labelled, Demonstration, Comparison),
    "spans": (Demonstration, Labelled, Comparison),
    "write": (Prompt, Demonstration, Labelled, Comparison),
    "steps": (Labelled,),
}
"""What else can become an item, by kind."""
EXAMPLES = {
    "compare": '{"prompt": "How do I boil an egg?", "answers": [{"text": "…"}, {"text": "…"}]}\n'
    '{"prompt": "How do I boil an egg?", "chosen": "…", "rejected": "…"}',
    "rank": '{"prompt": "Name a river.", "answers": [{"text": "…"}, {"text": "…"}, {"text": "…"}]}',
    "rate": '{"prompt": "Name a river.", "answer": {"text": "…"}}',
    "thumbs": '{"prompt": "Name a river.", "answer": {"text": "…"}}',
    "write": '{"prompt": "Name a river."}\n{"prompt": "Name a river.", "draft": {"text": "…"}}',
    "steps": '{"prompt": "What is 12 × 13?", "steps": ["12 × 13 = 12 × 10 + 12 × 3", "…"]}',
    "spans": '{"prompt": "Name a river.", "answer": {"text": "…"}}',
    "clips": '{"clips": [{"file": "walk-1.mp4", "media": "video"}, {"file": "walk-2.mp4"}]}',
    "principles": '{"principle": "Say so when you do not know."}',
    "talk": '{"policies": ["first", "second"], "role": "user", "rules": ["…"]}',
}
"""A row or two of each kind."""


def is_own(fields: Mapping[str, Any], kind: str) -> bool:
    """Whether a row is an item of this kind, rather than data of another format."""
    if isinstance(fields.get("payload"), Mapping) or kind not in READABLE:
        return True
    value = fields.get(OWN[kind])
    if kind in ("compare", "rank"):
        scored = any(fields.get(name) is not None for name in ("rank", "scores", "labels"))
        return isinstance(_several(fields), list) and not scored
    return value is not None and not any(n in fields for n in ("label", "thumb", "feedback"))


def _several(fields: Mapping[str, Any]) -> Any:
    """Answers that stand beside one another; TRL calls them completions."""
    found = fields.get("answers")
    return fields.get("completions") if found is None else found


def own(fields: Mapping[str, Any], kind: str, where: str) -> NewItem:
    """An item in a row: the row itself, or what stands inside ``payload``."""
    inner = fields.get("payload")
    if isinstance(inner, Mapping):
        payload = dict(inner)
    else:
        payload = {name: value for name, value in fields.items() if name not in NAMES}
        if kind in ("compare", "rank") and isinstance(payload.get("completions"), list):
            payload.setdefault("answers", payload.pop("completions"))
    if OWN[kind] not in payload and kind != "write":
        raise UserError(
            f"{where}: no column {OWN[kind]!r}, which items of kind {kind} need; columns seen: "
            f"{', '.join(map(str, fields)) or 'none'}. Such a row is an item: "
            f"{EXAMPLES[kind].splitlines()[0]}"
        )
    return NewItem(spelled_out(payload, kind), **_extra(fields, where))


def _extra(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a row says beside its item. Raises UserError for what is of the wrong kind."""
    given = {name: fields[name] for name in EXTRA if fields.get(name) is not None}
    for name, value in given.items():
        wanted, said = EXTRA[name]
        if not isinstance(value, wanted):
            raise UserError(f"{where}: {name} must be {said}; seen: {str(value)[:60]!r}.")
    return given


# ---- other formats


Make = Callable[[Row, bool], Iterator[NewItem]]


def converted(reader: Reader, settings: ProjectSettings, source: str) -> Make:
    """How rows of a source become items. Raises UserError where they cannot."""
    kind, chosen = settings.kind, reader.format
    if chosen.kind not in READABLE.get(kind, ()):
        raise UserError(_unfit(chosen, kind, source))

    def make(row: Row, gold: bool) -> Iterator[NewItem]:
        if chosen.name == "stepwise":
            yield _stepwise(row, gold)
            return
        yield from _items(reader.read(row), kind, gold)

    return make


def _unfit(chosen: Format, kind: str, source: str) -> str:
    held = {Prompt: "prompts without answers", Demonstration: "single answers"}
    said = held.get(chosen.kind, f"rows of the format {chosen.name}")
    advice = f"Such a row is an item: {EXAMPLES[kind].splitlines()[0]}"
    if chosen.kind is Prompt and kind in ("compare", "rank"):
        advice = "Let a model answer them first (backflip collect … --answers MODEL). " + advice
    return f"{source} holds {said}, of which no item of kind {kind!r} can be made. {advice}"


def _items(record: Record, kind: str, gold: bool) -> Iterator[NewItem]:
    match record:
        case Comparison() if kind in ("compare", "rank"):
            yield _comparison(record, kind, gold)
        case Comparison() if kind == "write":
            worst = record.rank.index(max(record.rank))
            yield _single(record.prompt, said(record.answers[worst]), kind)
        case Comparison():
            for answer, rank in zip(record.answers, record.rank, strict=True):
                known = {"up": rank == 0} if gold and kind == "thumbs" else None
                yield _single(record.prompt, said(answer), kind, known)
        case Demonstration():
            yield _single(record.messages[:-1], record.messages[-1].content, kind)
        case Labelled() if kind == "steps":
            lines = [line for line in said(record.answer).splitlines() if line.strip()]
            yield NewItem({"kind": kind, "prompt": _turns(record.prompt), "steps": lines})
        case Labelled():
            known = {"up": record.label} if gold and kind == "thumbs" else None
            yield _single(record.prompt, said(record.answer), kind, known)
        case Prompt():
            yield NewItem({"kind": kind, "prompt": _turns(record.messages)})


def _comparison(record: Comparison, kind: str, gold: bool) -> NewItem:
    if kind == "compare" and len(record.answers) != 2:
        raise BadRecordError(
            f"{counted(len(record.answers), 'answer')} where compare needs 2",
            "make a project of kind rank, which takes any number",
        )
    answers = [{"text": said(answer)} for answer in record.answers]
    payload = {"kind": kind, "prompt": _turns(record.prompt), "answers": answers}
    return NewItem(payload, gold=_gold(record, kind) if gold else None)


def _gold(record: Comparison, kind: str) -> dict[str, Any]:
    if kind == "rank":
        return {"ranks": list(record.rank)}
    if record.tied:
        return {"choice": "tie"}
    return {"choice": "ab"[record.rank.index(0)], "strength": 1}


def _single(prompt: Messages, text: str, kind: str, gold: dict[str, Any] | None = None) -> NewItem:
    name = "draft" if kind == "write" else "answer"
    return NewItem({"kind": kind, "prompt": _turns(prompt), name: {"text": text}}, gold=gold)


def _stepwise(row: Row, gold: bool) -> NewItem:
    """The steps of TRL's stepwise rows."""
    payload = {"prompt": row.fields["prompt"], "steps": list(row.fields["completions"])}
    labels = [1 if label else -1 for label in row.fields["labels"]]
    return NewItem(spelled_out(payload, "steps"), gold={"labels": labels} if gold else None)


def _turns(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def said(answer: Messages) -> str:
    """An answer's text; one of several turns names its speakers."""
    if len(answer) == 1:
        return answer[0].content
    return "\n\n".join(f"**{m.role.capitalize()}:** {m.content}" for m in answer)
