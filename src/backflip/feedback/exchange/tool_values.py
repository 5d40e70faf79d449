"""Responses from other tools, told by their shape → answers of a project.

Questions have any names. A reader says which of them it has used, so that none is lost in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from backflip.data.records import BadRecordError

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
ITEMS = "items"
"""Where a task of Label Studio's keeps a list of texts to rank."""
PLACE = "rank_"
"""Before the number of a place in a ranking of Label Studio's."""
LISTED = {"start", "end", "label", "value", "rank", "text", "score"}
"""Names of the parts of a marked passage and of a place in a ranking."""


@dataclass
class Response:
    """The response of one person: each value by the name of its question."""

    user: str
    values: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    at: Any = None
    """When, as the document writes it."""
    faults: list[str] = field(default_factory=list)
    """Parts of it that cannot be read."""
    notes: list[str] = field(default_factory=list)
    """Remarks on parts that are not lost."""
    unnamed: bool = False
    """Whether the document does not say who."""


Values: TypeAlias = Mapping[str, Any]
Read: TypeAlias = tuple[dict[str, Any], set[str]]
"""An answer, and the questions that it is made of."""


def is_nothing(value: Any) -> bool:
    """Whether a question was left open."""
    return value is None or value == ""


def plain_value(value: Any) -> Any:
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


def side_of(value: Any, names: Sequence[str]) -> str | None:
    """A label as a verdict on two sides; none where it is no such label."""
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


def ranks_of(value: Any, names: Sequence[str]) -> list[int | None] | None:
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


def seen(values: Values) -> str:
    """The values of a response, for an error."""
    return ", ".join(f"{name}={str(value)[:30]!r}" for name, value in values.items()) or "nothing"
