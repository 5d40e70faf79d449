"""Rows of public formats → records, each row accounted for.

Nothing is left out silently: a row that cannot be used is counted under a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from backflip.data.adapters import FORMATS, Fields, Format, known_formats
from backflip.data.errors import UserError
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Messages,
    Prompt,
    Record,
    Tally,
)
from backflip.data.sources import Row, read

R = TypeVar("R", bound=Record)

KINDS: dict[str, type[Record]] = {
    "demonstrations": Demonstration,
    "comparisons": Comparison,
    "prompts": Prompt,
}


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """Records of one kind, and an account of every row that was read."""

    source: str
    format: str
    records: list[R]
    dropped: Tally = field(default_factory=Tally)
    """Rows that could not be used, by reason."""
    converted: str = ""
    """What was made out of what, where the data held another kind of record; else empty."""

    @property
    def rows(self) -> int:
        """Rows that were read: kept and dropped."""
        return len(self.records) + self.dropped.total


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
        kind: Demonstration, Comparison, Prompt, or their names in the plural. Comparisons also
            serve as demonstrations (the best answer); both serve as prompts.
        format: the name of a format; found by the columns when not given.
        limit: read at most so many rows.
        strict: stop at the first row that cannot be used, instead of counting it.

    Raises:
        UserError: the source cannot be read, its format is unknown, or no row can be used.

    """
    wanted = _kind(kind)
    chosen: Format | None = _named(format) if format else None
    records, dropped = list[Record](), Tally()
    held: type[Record] | None = None
    for row in read(source, limit=limit):
        if chosen is None:
            chosen = detect(row.fields, source)
        try:
            record = _read(chosen, row)
            records.append(_converted(record, wanted))
            held = held or type(record)
        except BadRecordError as error:
            if strict:
                raise UserError(f"{row.where}: {error}") from error
            dropped.add(error.reason, row.where)
    _check_any(source, records, dropped, wanted)
    made = _conversion(held, wanted, len(records))
    return Loaded(source, chosen.name if chosen else "", cast("list[R]", records), dropped, made)


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


def _converted(record: Record, wanted: type[Record]) -> Record:
    if isinstance(record, wanted):
        return record
    if wanted is Demonstration and isinstance(record, Comparison):
        messages = record.prompt + record.best
        return Demonstration(messages, record.weight, where=record.where)
    if wanted is Prompt and not isinstance(record, Prompt):
        return Prompt(record.prompt, record.where)
    raise UserError(
        f"{record.where.source} holds {_plural(type(record))}, and {_plural(wanted)} are needed; "
        f"{_plural(wanted)} cannot be made out of them"
    )


def _conversion(held: type[Record] | None, wanted: type[Record], count: int) -> str:
    if held is None or held is wanted:
        return ""
    how = " (the best answer of each)" if wanted is Demonstration else ""
    return f"{count} {_plural(held)} read as {_plural(wanted)}{how}"


def _plural(kind: type[Record]) -> str:
    return next(name for name, entry in KINDS.items() if entry is kind)


def _check_any(
    source: str, records: Sequence[Record], dropped: Tally, wanted: type[Record]
) -> None:
    if records:
        return
    why = "; ".join(dropped.lines()) if dropped else "the source has no rows"
    raise UserError(f"{source}: no usable {_plural(wanted)}: {why}")


def as_row(record: Record) -> dict[str, Any]:
    """The record as a row that ``load`` reads back: TRL's conversational columns."""
    if isinstance(record, Prompt):
        return {"prompt": _dicts(record.messages)}
    if isinstance(record, Demonstration):
        if not record.prompt:
            return {"text": record.messages[0].content, "weight": record.weight}
        return {"messages": _dicts(record.messages), "weight": record.weight}
    return _comparison_row(record)


def _comparison_row(record: Comparison) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": _dicts(record.prompt), "weight": record.weight}
    if len(record.answers) > 2:
        answers = [_dicts(answer) for answer in record.answers]
        return row | {"completions": answers, "rank": list(record.rank)}
    best = record.rank.index(0)
    row |= {"chosen": _dicts(record.answers[best]), "rejected": _dicts(record.answers[1 - best])}
    row |= {"margin": record.margin, "p_chosen": record.soft}
    return row | ({"tie": True} if record.tied else {})


def _dicts(messages: Messages) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
