"""What a person filled in elsewhere, told by its shape → an answer of a project.

Questions have any names. A reader says which of them it has used, so that none is lost in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from backflip.data.records import BadRecordError
from backflip.data.thumbs import thumb
from backflip.feedback.kinds.settings import ProjectSettings

SIDES = {
    **dict.fromkeys(("left", "first", "chosen"), "a"),
    **dict.fromkeys(("right", "second", "rejected"), "b"),
    **dict.fromkeys(
        ("tie", "equal", "same", "both", "both good", "no preference", "equally good"), "tie"
    ),
    **dict.fromkeys(("both bad", "neither", "none", "equally bad"), "both_bad"),
    **dict.fromkeys(("cannot tell", "can't tell", "unsure", "not sure", "unclear"), "cannot_tell"),
}
NUMBERED = re.compile(
    r"(?:(?:the )?(?:answer|response|reply|completion|option|candidate|output|model|text|message"
    r"|side|summary|assistant|left|right)s?[ :]*)?(?P<side>[12ab])"
    r"(?: is)?(?: (?:much|slightly|significantly|clearly|a bit|a little|a lot))?(?: better)?"
)
"""Labels that number the two sides: "Response 1 is better", "b"."""
PLACES = {"1": "a", "a": "a", "2": "b", "b": "b"}
WHY = ("reason", "rationale", "explanation", "comment", "comments", "notes", "why", "justification")
STRENGTH = "strength"
LISTED = {"start", "end", "label", "value", "rank", "text", "score"}
"""Names of the parts of a marked passage and of a place in a ranking."""


@dataclass
class Said:
    """What one person filled in: each value by the name of its question."""

    user: str
    values: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    at: Any = None
    """When, as the document writes it."""
    faults: list[str] = field(default_factory=list)
    """Parts of it that cannot be read."""
    notes: list[str] = field(default_factory=list)
    """What is not lost, but is to be said."""
    unnamed: bool = False
    """Whether the document does not say who."""


Values: TypeAlias = Mapping[str, Any]
Read: TypeAlias = tuple[dict[str, Any], set[str]]
"""An answer, and the questions that it is made of."""


def read_value(
    said: Said, names: Sequence[str], settings: ProjectSettings
) -> tuple[dict[str, Any], list[str]]:
    """What a person said, as an answer of the project, and questions that it has no place for.

    ``names``: what the document calls its answers, in order. Raises BadRecordError where it is no
    answer.
    """
    reader = {
        "compare": _compare,
        "rank": _rank,
        "rate": _rate,
        "thumbs": _thumbs,
        "write": _write,
        "spans": _spans,
    }[settings.kind]
    values = {n: _plain(value) for n, value in said.values.items() if not _nothing(value)}
    value, used = reader(values, names, settings)
    why = next((n for n in WHY if isinstance(values.get(n), str)), "")
    if why and settings.kind != "write":
        value, used = value | {"reason": values[why]}, used | {why}
    return value, [name for name in values if name not in used]


def _nothing(value: Any) -> bool:
    return value is None or value == ""


def _plain(value: Any) -> Any:
    """A list of parts for parts in columns; what stands alone in a list of labels."""
    if isinstance(value, Mapping) and value and set(value) <= LISTED:
        columns = list(value.values())
        if all(isinstance(column, list) for column in columns):
            if len({len(column) for column in columns}) > 1:
                raise BadRecordError("columns of parts that are not equally long")
            return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    return value


def whole(value: Any) -> int | None:
    """A whole number, as which tables write 4.0 and "4"; none for all else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}(\.0+)?", value.strip()):
        value = float(value)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return None


# ---- two sides, and many


def _compare(values: Values, names: Sequence[str], settings: ProjectSettings) -> Read:
    for name, value in values.items():
        if isinstance(value, list) and (ranks := _ranks(value, names)) is not None:
            a, b = (len(names) if rank is None else rank for rank in ranks)
            return {"choice": "tie" if a == b else "a" if a < b else "b", "strength": 1}, {name}
    asked = {n: value for n, value in values.items() if n not in (*WHY, STRENGTH)}
    texts = {n: value for n, value in asked.items() if isinstance(value, str)}
    # A number is a side only where nothing else was asked: else it may be a mark.
    for name, value in (texts or (asked if len(asked) == 1 else {})).items():
        choice = _side(value, names)
        if choice is not None:
            level = whole(values.get(STRENGTH)) or 1
            strength = min(max(level, 1), settings.levels)
            return {"choice": choice, "strength": strength}, {name, STRENGTH}
    raise BadRecordError("no answer says which side is better", f"seen: {_seen(values)}")


def _side(value: Any, names: Sequence[str]) -> str | None:
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = _word(str(value))
    known = [_word(name) for name in names]
    if text in known:
        return "ab"[known.index(text)]
    if text in SIDES:
        return SIDES[text]
    numbered = NUMBERED.fullmatch(text)
    return PLACES[numbered["side"]] if numbered else None


def _word(text: str) -> str:
    """A label without what its spellings differ in."""
    return re.sub(r"[\s_-]+", " ", text).strip(" .!").casefold()


def _rank(values: Values, names: Sequence[str], _settings: ProjectSettings) -> Read:
    for name, value in values.items():
        if (ranks := _ranks(value, names)) is not None:
            return {"ranks": ranks}, {name}
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
    ranks = [rank for rank in given.values() if rank is not None]
    numbers = all(isinstance(rank, int | float) for rank in ranks)
    if not set(given) <= set(names) or not numbers:
        return None
    levels = sorted({rank for rank in given.values() if rank is not None})
    places = [given.get(name) for name in names]
    return [None if place is None else levels.index(place) for place in places]


# ---- one answer


def _rate(values: Values, _names: Sequence[str], settings: ProjectSettings) -> Read:
    numbers = {name: n for name, value in values.items() if (n := whole(value)) is not None}
    wanted = [attribute.name for attribute in settings.attributes]
    if len(wanted) == len(numbers) == 1:
        return {"ratings": {wanted[0]: next(iter(numbers.values()))}}, set(numbers)
    if not set(wanted) <= set(numbers):
        raise BadRecordError(
            "no rating for each attribute", f"wanted: {', '.join(wanted)}; seen: {_seen(values)}"
        )
    return {"ratings": {name: numbers[name] for name in wanted}}, set(wanted)


def _thumbs(values: Values, _names: Sequence[str], _settings: ProjectSettings) -> Read:
    for name, value in values.items():
        if name not in WHY and isinstance(value, str | int | float):
            try:
                return {"up": thumb(name, value)}, {name}
            except BadRecordError:
                continue
    raise BadRecordError("no answer is a thumb", f"seen: {_seen(values)}")


def _write(values: Values, names: Sequence[str], _settings: ProjectSettings) -> Read:
    for name, value in values.items():
        if isinstance(value, str) and value.strip() and name not in (*WHY, "edited"):
            edited = values.get("edited")
            from_draft = bool(names) if edited is None else edited in (True, "yes", "true")
            return {"text": value, "from_draft": from_draft and bool(names)}, {name, "edited"}
    raise BadRecordError("no answer is a text", f"seen: {_seen(values)}")


def _spans(values: Values, _names: Sequence[str], _settings: ProjectSettings) -> Read:
    for name, value in values.items():
        if isinstance(value, list) and all(
            isinstance(span, Mapping) and {"start", "end", "label"} <= set(span) for span in value
        ):
            kept = ("start", "end", "label")
            return {"spans": [{part: span[part] for part in kept} for span in value]}, {name}
    raise BadRecordError("no answer marks passages", f"seen: {_seen(values)}")


def _seen(values: Values) -> str:
    return ", ".join(f"{name}={str(value)[:30]!r}" for name, value in values.items()) or "nothing"
