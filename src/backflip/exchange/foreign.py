"""Documents of other annotation tools: what is common to reading and writing them.

Their fields have any names, so fields are found by usual ones, and what people said by its shape.
An answer that this project could not have got is counted, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backflip.data.conversations import prompt_messages
from backflip.data.judgements import thumb
from backflip.data.records import BadRecordError
from backflip.feedback.settings import ProjectSettings

KINDS = ("compare", "rank", "rate", "thumbs", "write", "spans")
"""Kinds that such tools have too."""
NEEDED = {"compare": 2, "rank": 2, "rate": 1, "thumbs": 1, "spans": 1}
PROMPTS = ("prompt", "instruction", "question", "query", "input", "conversation", "context", "chat")
ANSWERS = re.compile(
    r"(?:response|answer|reply|completion|generation|output|summary|candidate|option|text|draft"
    r"|chosen|rejected)[-_ ]?(?:\d+|[a-z])?",
    re.IGNORECASE,
)
SIDES = {
    **dict.fromkeys(("a", "1", "left", "first", "chosen"), "a"),
    **dict.fromkeys(("b", "2", "right", "second", "rejected"), "b"),
    **dict.fromkeys(("tie", "equal", "same", "both", "both good", "no preference"), "tie"),
    **dict.fromkeys(("both bad", "neither", "none"), "both_bad"),
    **dict.fromkeys(("cannot tell", "can't tell", "unsure", "not sure", "unclear"), "cannot_tell"),
}
WHY = ("reason", "rationale", "explanation", "comment", "comments", "notes")


@dataclass(frozen=True)
class Given:
    """What one person said of a document, in its own order."""

    user: str
    value: dict[str, Any]
    seconds: float | None = None


@dataclass(frozen=True)
class Document:
    """An item with what people said of it elsewhere."""

    payload: dict[str, Any]
    given: tuple[Given, ...] = ()
    gold: dict[str, Any] | None = None
    faults: tuple[str, ...] = ()
    """Why answers, or the whole document, cannot be taken over."""


@dataclass
class Said:
    """What one person filled in: each value by the name of its question."""

    user: str
    values: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Fields:
    """A document's fields, told apart."""

    prompt: Any
    answers: Mapping[str, str]
    """By name, in their order."""

    @classmethod
    def of(cls, fields: Mapping[str, Any], answers: Mapping[str, str] | None = None) -> Fields:
        """``answers``: where they are known. Raises BadRecordError where there is no prompt."""
        name = next((name for name in PROMPTS if fields.get(name)), None)
        if name is None:
            raise BadRecordError(
                "no field that is a prompt",
                f"fields seen: {', '.join(fields)}; call one {', '.join(PROMPTS[:4])} …",
            )
        if answers is not None:
            return cls(fields[name], answers)
        found = {
            key: str(value)
            for key, value in fields.items()
            if key != name and ANSWERS.fullmatch(key) and isinstance(value, str) and value
        }
        return cls(fields[name], found)

    def payload(self, kind: str, sources: Sequence[str] = ()) -> dict[str, Any]:
        """The item. Raises BadRecordError where a kind needs other answers."""
        turns = [
            {"role": message.role, "content": message.content}
            for message in prompt_messages(self.prompt)
        ]
        texts, needed = list(self.answers.values()), NEEDED.get(kind, 0)
        if len(texts) < needed or (kind == "compare" and len(texts) > needed):
            raise BadRecordError(
                f"{len(texts)} answers where {kind} needs {needed}",
                f"fields that look like answers: {', '.join(self.answers) or 'none'}",
            )
        made = [{"text": text} for text in texts]
        for answer, source in zip(made, sources, strict=False):
            answer["source"] = source
        payload: dict[str, Any] = {"kind": kind, "prompt": turns}
        if kind in ("compare", "rank"):
            return payload | {"answers": made}
        if kind == "write":
            return payload | ({"draft": made[0]} if made else {})
        return payload | {"answer": made[0]}


def sources_field(sources: Sequence[str]) -> str:
    """Which model wrote each answer, as one text; JSON where a comma would cut a name in two."""
    parted = any("," in name or name.startswith("[") for name in sources)
    return json.dumps(list(sources), ensure_ascii=False) if parted else ", ".join(sources)


def sources_of(field: Any) -> list[str]:
    """The same back; none where there is no such text."""
    if not isinstance(field, str) or not field:
        return []
    try:
        found = json.loads(field) if field.startswith("[") else field.split(", ")
    except ValueError:
        found = field.split(", ")
    return [str(name) for name in found]


def read_value(said: Said, names: Sequence[str], settings: ProjectSettings) -> dict[str, Any]:
    """What a person said, as an answer of the project. Raises BadRecordError where it is none."""
    reader = {
        "compare": _compare,
        "rank": _rank,
        "rate": _rate,
        "thumbs": _thumbs,
        "write": _write,
        "spans": _spans,
    }[settings.kind]
    value = reader(said.values, names, settings)
    why = next((said.values[name] for name in WHY if said.values.get(name)), "")
    return value | ({"reason": str(why)} if why and settings.kind != "write" else {})


Values = Mapping[str, Any]


def _compare(values: Values, names: Sequence[str], settings: ProjectSettings) -> dict[str, Any]:
    for value in values.values():
        if (ranks := _ranks(value, names)) is not None:
            a, b = (len(names) if rank is None else rank for rank in ranks)
            return {"choice": "tie" if a == b else "a" if a < b else "b", "strength": 1}
    for name, value in values.items():
        choice = _side(value, names)
        if choice is not None and name not in WHY:
            strength = values.get("strength")
            level = strength if isinstance(strength, int) else 1
            return {"choice": choice, "strength": min(max(level, 1), settings.levels)}
    raise BadRecordError("no answer says which side is better", f"seen: {_seen(values)}")


def _side(value: Any, names: Sequence[str]) -> str | None:
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = str(value)
    if text in names:
        return "ab"[list(names).index(text)]
    return SIDES.get(text.strip().lower().replace("_", " "))


def _rank(values: Values, names: Sequence[str], _settings: ProjectSettings) -> dict[str, Any]:
    for value in values.values():
        if (ranks := _ranks(value, names)) is not None:
            return {"ranks": ranks}
    raise BadRecordError("no answer ranks the responses", f"seen: {_seen(values)}")


def _ranks(value: Any, names: Sequence[str]) -> list[int | None] | None:
    """A rank for each name: of a list of {value, rank}, or of names in order; None: neither."""
    if not isinstance(value, list | tuple) or not value:
        return None
    if all(isinstance(entry, Mapping) and "value" in entry for entry in value):
        given = {str(e["value"]): e.get("rank") for e in value}
    elif all(isinstance(entry, str | int) for entry in value):
        given = {str(entry): place for place, entry in enumerate(value, start=1)}
    else:
        return None
    if not set(given) <= set(names):
        return None
    levels = sorted({rank for rank in given.values() if rank is not None})
    places = [given.get(name) for name in names]
    return [None if place is None else levels.index(place) for place in places]


def _rate(values: Values, _names: Sequence[str], settings: ProjectSettings) -> dict[str, Any]:
    numbers = {
        name: value
        for name, value in values.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    wanted = [attribute.name for attribute in settings.attributes]
    if len(wanted) == len(numbers) == 1:
        numbers = {wanted[0]: next(iter(numbers.values()))}
    if not set(wanted) <= set(numbers):
        raise BadRecordError(
            "no rating for each attribute", f"wanted: {', '.join(wanted)}; seen: {_seen(values)}"
        )
    return {"ratings": {name: numbers[name] for name in wanted}}


def _thumbs(values: Values, _names: Sequence[str], _settings: ProjectSettings) -> dict[str, Any]:
    for name, value in values.items():
        if name not in WHY:
            try:
                return {"up": thumb(name, value)}
            except BadRecordError:
                continue
    raise BadRecordError("no answer is a thumb", f"seen: {_seen(values)}")


def _write(values: Values, names: Sequence[str], _settings: ProjectSettings) -> dict[str, Any]:
    for name, value in values.items():
        if isinstance(value, str) and value.strip() and name not in (*WHY, "edited"):
            edited = values.get("edited")
            from_draft = bool(names) if edited is None else edited in (True, "yes", "true")
            return {"text": value, "from_draft": from_draft and bool(names)}
    raise BadRecordError("no answer is a text", f"seen: {_seen(values)}")


def _spans(values: Values, _names: Sequence[str], _settings: ProjectSettings) -> dict[str, Any]:
    for value in values.values():
        if isinstance(value, list) and all(
            isinstance(span, Mapping) and {"start", "end", "label"} <= set(span) for span in value
        ):
            kept = ("start", "end", "label")
            return {"spans": [{name: span[name] for name in kept} for span in value]}
    raise BadRecordError("no answer marks passages", f"seen: {_seen(values)}")


def _seen(values: Values) -> str:
    return ", ".join(f"{name}={str(value)[:30]!r}" for name, value in values.items()) or "nothing"


def taken_over(
    fields: Mapping[str, Any],
    said: Iterable[Said],
    settings: ProjectSettings,
    *,
    answers: Mapping[str, str] | None = None,
    sources: Sequence[str] = (),
    gold: Said | None = None,
    faults: Sequence[str] = (),
) -> Document:
    """A document as an item with answers. Raises BadRecordError where it can be no item."""
    told = Fields.of(fields, answers)
    names = list(told.answers)
    payload = told.payload(settings.kind, sources)
    given, wrong = list[Given](), list(faults)
    for one in said:
        try:
            given.append(Given(one.user, read_value(one, names, settings), one.seconds))
        except BadRecordError as error:
            wrong.append(error.reason)
    known = None
    if gold is not None:
        try:
            known = read_value(gold, names, settings)
        except BadRecordError as error:
            wrong.append(error.reason)
    return Document(payload, tuple(given), known, tuple(wrong))
