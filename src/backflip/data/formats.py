"""Rows of public formats → records, each row accounted for.

Nothing is left out silently: a row that cannot be used is counted under a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from backflip.data.adapters import FORMATS, Fields, Format, known_formats
from backflip.data.conversions import KINDS, check_convertible, convert, plural
from backflip.data.errors import UserError
from backflip.data.judgements import SCORE
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Messages,
    Prompt,
    Record,
    Tally,
)
from backflip.data.sources import Row, read

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """Records of one kind, and an account of every row that was read."""

    source: str
    format: str
    records: list[R]
    dropped: Tally = field(default_factory=Tally)
    """Rows that could not be used, by reason."""
    converted: str = ""
    """How many of what became what, where the data held another kind of record; else empty."""
    rows: int = 0
    """Rows that were read: used and dropped."""


def load(
    source: str,
    kind: type[R] | str,
    *,
    format: str | None = None,
    limit: int | None = None,
    strict: bool = False,
) -> Loaded[R]:
    """Read records of one kind from a file, a folder, the package's own data or the hub.

    Args:
        source: see ``sources.read``.
        kind: Demonstration, Comparison, Labelled, Prompt, or their names in the plural. What is
            found becomes what is asked for where it can; see ``conversions.convert``.
        format: the name of a format; found by the columns when not given.
        limit: read at most so many rows.
        strict: stop at the first row that cannot be used, instead of counting it.

    Raises:
        UserError: the source cannot be read, its format is unknown, or no row can be used.

    """
    wanted = _kind(kind)
    held, dropped = list[Record](), Tally()
    chosen: Format | None = _named(format) if format else None
    for row in read(source, limit=limit):
        if chosen is None:
            chosen = detect(row.fields, source)
            check_convertible(chosen.kind, wanted, source)
        try:
            held.append(_read(chosen, row))
        except BadRecordError as error:
            if strict:
                raise UserError(f"{row.where}: {error}") from error
            dropped.add(error.reason, row.where)
    _check_scores(source, held, dropped)
    rows = len(held) + dropped.total
    made = convert(held, wanted)
    if strict and made.dropped:
        raise UserError(f"{source}: {'; '.join(made.dropped.lines())}")
    dropped.update(made.dropped)
    _check_any(source, made.records, dropped, wanted)
    name = chosen.name if chosen else ""
    return Loaded(source, name, cast("list[R]", made.records), dropped, made.said, rows)


def kind_of(source: str, format: str | None = None) -> str:
    """Which kind of record a source holds, told by the columns of its first row.

    The plural, as ``load`` takes it.
    """
    if format:
        return _name_of(_named(format).kind)
    return _name_of(detect(next(read(source, limit=1)).fields, source).kind)


def detect(fields: Fields, source: str) -> Format:
    """The format whose columns this row has."""
    for entry in FORMATS:
        if entry.fits(fields):
            return entry
    expected = "; ".join(f"{entry.name}: {entry.expects}" for entry in FORMATS)
    seen = ", ".join(fields) or "none"
    raise UserError(
        f"{source}: unknown format. Columns seen: {seen}. Columns expected, one of: {expected}. "
        "Rename the columns, or name a format with format="
    )


def _read(chosen: Format, row: Row) -> Record:
    try:
        return chosen.read(row)
    except KeyError as error:
        raise BadRecordError(
            f"no column {error.args[0]!r}, which format {chosen.name} needs",
            f"columns seen: {', '.join(row.fields)}",
        ) from error


def _kind(kind: type[Record] | str) -> type[Record]:
    if not isinstance(kind, str):
        return kind
    if kind not in KINDS:
        raise UserError(f"kind {kind!r} is not known; use {', '.join(KINDS)}")
    return KINDS[kind]


def _named(name: str) -> Format:
    for entry in FORMATS:
        if entry.name == name:
            return entry
    raise UserError(f"format={name!r} is not known; use one of {', '.join(known_formats())}")


def _name_of(kind: type[Record]) -> str:
    return next(name for name, entry in KINDS.items() if entry is kind)


def _check_scores(source: str, held: Sequence[Record], dropped: Tally) -> None:
    """Refuse thumbs beside scores: 1 of 5 stars would be read as a thumb up."""
    reason = SCORE.format(column="rating")
    if held and reason in dropped:
        raise UserError(
            f"{source}: {dropped.counts[reason]} × {reason} (e.g. "
            f"{', '.join(dropped.examples[reason])}), so a rating of 1 may be the worst and not a "
            "thumb up. Decide which ratings are good and write a column label (true or false), or "
            "set format=messages to imitate all answers"
        )


def _check_any(
    source: str, records: Sequence[Record], dropped: Tally, wanted: type[Record]
) -> None:
    if records:
        return
    raise UserError(f"{source}: no usable {plural(wanted)}: {'; '.join(dropped.lines())}")


def as_row(record: Record) -> dict[str, Any]:
    """The record as a row that ``load`` reads back: TRL's conversational columns."""
    if isinstance(record, Prompt):
        return {"prompt": _dicts(record.messages)}
    if isinstance(record, Demonstration):
        if not record.prompt:
            return {"text": record.messages[0].content, "weight": record.weight}
        return {"messages": _dicts(record.messages), "weight": record.weight}
    if isinstance(record, Labelled):
        row = {"prompt": _dicts(record.prompt), "completion": _dicts(record.answer)}
        return row | {"label": record.label, "weight": record.weight}
    return _comparison_row(record)


def _comparison_row(record: Comparison) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": _dicts(record.prompt), "weight": record.weight}
    if len(record.answers) > 2:
        answers = [_dicts(answer) for answer in record.answers]
        row |= {"completions": answers, "rank": list(record.rank)}
        return row | ({"win": list(record.win)} if record.win else {})
    best = record.rank.index(0)
    order = (best, 1 - best)
    chosen, rejected = (_dicts(record.answers[number]) for number in order)
    row |= {"chosen": chosen, "rejected": rejected}
    row |= {"margin": record.margin, "p_chosen": record.soft}
    row |= {"win": [record.win[number] for number in order]} if record.win else {}
    return row | ({"tie": True} if record.tied else {})


def _dicts(messages: Messages) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
