"""One row of data → the items that it holds: our own form, or any format that trains a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any

from backflip.data.formats import Reader
from backflip.data.records import (
    Demonstration,
    Labelled,
    Prompt,
    Solution,
)
from backflip.data.rows import Format
from backflip.data.sources import Row
from backflip.errors import UserError
from backflip.feedback.exchange.mapping import mapping_of
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.rating.items import NewItem
from backflip.feedback.tasks.examples import spelled_out
from backflip.feedback.tasks.settings import ProjectSettings

EXTRA: dict[str, tuple[type | UnionType, str]] = {
    "gold": (Mapping, "an answer, as an object"),
    "why": (str, "a text"),
    "priority": (int | float, "a number"),
    "route": (str, "a text such as language=de"),
    "warning": (str, "a text"),
}
"""Columns beside an item's own."""
NAMES = ("payload", *EXTRA, "item", "kind")


def is_own(fields: Mapping[str, Any], kind: str) -> bool:
    """Whether a row is an item of this kind, rather than data of another format."""
    if isinstance(fields.get("payload"), Mapping) or not mapping_of(kind).readable:
        return True
    shown = kind_of(kind)
    value = fields.get(shown.column)
    if shown.sides:
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
        if kind_of(kind).sides == "answers" and isinstance(payload.get("completions"), list):
            payload.setdefault("answers", payload.pop("completions"))
    shown = kind_of(kind)
    if shown.column_needed and shown.column not in payload:
        raise UserError(
            f"{where}: no column {shown.column!r}, which items of kind {kind} need; columns seen: "
            f"{', '.join(map(str, fields)) or 'none'}. Such a row is an item: "
            f"{shown.wording.row.splitlines()[0]}"
        )
    return NewItem(spelled_out(payload, kind), **_extra(fields, where))


def _extra(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Columns of a row beside its item. Raises UserError for what is of the wrong kind."""
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
    mapping = mapping_of(kind)
    held = Labelled if chosen.kind is Solution else chosen.kind
    if held not in mapping.readable:
        raise UserError(_unfit(chosen, kind, source))

    def make(row: Row, gold: bool) -> Iterator[NewItem]:
        yield from mapping.items(reader.read(row), gold=gold)

    return make


def _unfit(chosen: Format, kind: str, source: str) -> str:
    held = {Prompt: "prompts without answers", Demonstration: "single answers"}
    said = held.get(chosen.kind, f"rows of the format {chosen.name}")
    advice = f"Such a row is an item: {kind_of(kind).wording.row.splitlines()[0]}"
    if chosen.kind is Prompt and kind_of(kind).fewest > 1:
        advice = "Let a model answer them first (backflip collect … --answers MODEL). " + advice
    return f"{source} holds {said}, of which no item of kind {kind!r} can be made. {advice}"
