"""Rows of public formats → records, each row accounted for.

Nothing is left out silently: a row that cannot be used is counted under a reason.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

from backflip.data.adapters import FORMATS, known_formats, sides
from backflip.data.columns import PROMPTS, Fields, check_columns, other_media, unread_media
from backflip.data.conversions import KINDS, Converted, check_convertible, convert, plural
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Prompt,
    Provenance,
    Record,
    Tally,
)
from backflip.data.references import settled
from backflip.data.rows import Format, Line, holds_text
from backflip.data.solutions import ZERO_BAD, ZERO_NEUTRAL
from backflip.data.sources import Row, Source, name_of, read
from backflip.data.thumbs import SCORE
from backflip.errors import UserError
from backflip.text import counted

R = TypeVar("R", bound=Record)


MANUAL = "docs/data.md lists all formats"
SHOWN = 20
"""Unread columns that are named where not all have to be."""


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
    unread: Mapping[str, int] = field(default_factory=dict[str, int])
    """In how many of the used rows a column, or a key of messages, held something unread."""
    notes: tuple[str, ...] = ()
    """The choice made where rows could be read in several ways."""

    def unread_line(self, most: int | None = SHOWN, said: str = "not used") -> str:
        """Columns that nobody has read, in a sentence; empty where all was read."""
        return not_used(self.unread, self.rows - self.dropped.total, most, said)


def not_used(
    unread: Mapping[str, int], rows: int, most: int | None = SHOWN, said: str = "not used"
) -> str:
    """Columns, or keys of messages, that nobody has read, each with the rows in which it held
    something unless that is every one of ``rows``; empty where there is none.
    """
    if not unread:
        return ""
    named = [
        name if count >= rows else f"{name} ({counted(count, 'row')})"
        for name, count in unread.items()
    ]
    more = f" and {len(named) - most} more" if most and len(named) > most else ""
    return f"{said}: {', '.join(named[:most])}{more}"


def load(
    source: Source,
    kind: type[R] | str,
    *,
    format: str | None = None,
    limit: int | None = None,
    strict: bool = False,
    columns: Mapping[str, str] | None = None,
    streamed: bool = False,
) -> Loaded[R]:
    """Read records of one kind from a file, a folder, the package's own data or the hub.

    Args:
        source: see ``sources.read``.
        kind: Demonstration, Comparison, Labelled, Prompt, Solution, or their names in the plural.
            What is found becomes what is asked for where it can; see ``conversions.convert``.
        format: the name of a format; found by the columns when not given.
        limit: read at most so many rows.
        strict: stop at the first row that cannot be used, instead of counting it.
        columns: which column of the source stands for which name: ``{"prompt": "ask"}``.
        streamed: of the hub, fetch no more than is read.

    Raises:
        UserError: the source cannot be read, its format is unknown, or no row can be used.

    """
    wanted, name = _kind(kind), name_of(source)
    rows = read(source, limit=limit, streamed=streamed)
    first = next(rows)  # ``read`` refuses a source without rows.
    reader = Reader.of(first.fields, name, format=format, columns=columns)
    check_convertible(reader.format, wanted, name, first.fields)
    reader.carries = wanted is Prompt or wanted is reader.format.kind is Comparison
    held, dropped = reader.read_all(itertools.chain([first], rows), strict=strict)
    _check_scores(name, held, dropped)
    reader.check_choices(name)
    count = len(held) + dropped.total
    made = _converted(held, wanted, name, strict=strict)
    dropped.update(made.dropped)
    _check_any(name, made.records, dropped, wanted)
    return reader.account(name, made, dropped, count)


def _converted(held: list[Record], wanted: type[R], name: str, *, strict: bool) -> Converted:
    """Records as the kind that was asked for; ``strict`` refuses one that cannot become it."""
    made = convert(held, wanted)
    if strict and made.dropped:
        raise UserError(f"{name}: {'; '.join(made.dropped.lines())}")
    return made


class Reader:
    """Reads the rows of one source, as its first row has settled, and notes what it leaves."""

    def __init__(self, format: Format, columns: Mapping[str, str]) -> None:
        self.format = format
        self.columns = columns
        self.unread = Counter[str]()
        self.remarks = Counter[str]()
        self._lifted = ""
        self.carried: dict[Provenance, Mapping[str, Any]] = {}
        """Columns that nobody has read, by the place of their row; see ``with_columns``."""
        self.carries = False

    @staticmethod
    def of(
        first: Mapping[str, Any],
        source: str,
        *,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> Reader:
        """A reader for rows like the first. Raises UserError for columns of no known format."""
        columns = dict(columns or {})
        lifted = _lifted(first, columns, format)
        row = _raised(first, lifted)
        check_columns(columns, row, source)
        fields = Fields(row, columns)
        chosen = named(format) if format else _detect(fields, source)
        prompt = fields.first(PROMPTS)
        settled = "prompt" in columns or prompt in (None, "prompt")
        if prompt is not None and not settled and not isinstance(fields.peek(prompt), Mapping):
            columns["prompt"] = fields.column(prompt)
        made = Reader(chosen, columns)
        made._lifted = lifted
        return made

    def read(self, row: Row) -> Record:
        """The record in a row. Raises BadRecordError."""
        fields = Fields(_raised(row.fields, self._lifted), self.columns)
        _check_text(other_media(fields))
        try:
            record = self.format.read(Line(row.where, fields))
            _check_text(unread_media(fields))
        except KeyError as error:
            raise BadRecordError(
                f"no column {error.args[0]!r}, which format {self.format.name} needs",
                f"columns seen: {', '.join(map(str, row.fields))}",
            ) from error
        unread = list(fields.unread())
        self.unread.update(dict.fromkeys(unread, 1))
        if self.carries:
            held = fields.kept.union(unread)
            self.carried[row.where] = {n: v for n, v in fields.row.items() if n in held}
        self.remarks.update(dict.fromkeys(fields.remarks, 1))
        return record

    def read_all(self, rows: Iterable[Row], *, strict: bool) -> tuple[list[Record], Tally]:
        """The records in all rows, and a tally of rows that hold none.

        ``strict``: raise UserError at the first of those instead.
        """
        held, dropped = list[Record](), Tally()
        for row in rows:
            try:
                held.append(self.read(row))
            except BadRecordError as error:
                if strict:
                    raise UserError(f"{row.where}: {error}") from error
                dropped.add(error.reason, row.where)
        return held, dropped

    def check_choices(self, source: str) -> None:
        """Raises UserError where rows were read in two ways that cannot both be meant."""
        if ZERO_BAD in self.remarks and ZERO_NEUTRAL in self.remarks:
            raise UserError(
                f"{source}: labels of 0 and 1 in {self.remarks[ZERO_BAD]} rows, and of −1, 0 and 1 "
                f"in {self.remarks[ZERO_NEUTRAL]}, so that 0 may be a bad step or a neutral one. "
                "Rename the column to step_labels where it is neutral, or write true and false"
            )

    def with_columns(self, record: Record) -> Record:
        """A prompt with its reference answer, and further columns that its judges may ask for; a
        comparison with those that nobody has read.
        """
        info = self.carried.get(record.where, {})
        if isinstance(record, Comparison):
            return replace(record, info=info) if info else record
        if not isinstance(record, Prompt):
            return record
        column, given = self.columns.get("reference"), record.reference
        if column and self.format.kind is not Prompt:
            given = ""  # the row's own answer is not what the recipe names
        reference, info, remark = settled(given, info, column)
        self.remarks.update([remark] if remark else [])
        return replace(record, info=info, reference=reference)

    def account(self, source: str, made: Converted, dropped: Tally, rows: int) -> Loaded[Any]:
        """The records of ``rows`` rows, with an account of the rest."""
        return Loaded(
            source,
            self.format.name,
            [self.with_columns(record) for record in made.records],
            dropped,
            made.said,
            rows,
            dict(self.unread),
            tuple(self.notes()),
        )

    def notes(self) -> list[str]:
        """Choices made, in sentences."""
        read_as = [f"{name} is read from {column}" for name, column in self.columns.items()]
        lifted = [f"rows are read from inside the column {self._lifted}"] if self._lifted else []
        remarks = [f"{remark} ({counted(count, 'row')})" for remark, count in self.remarks.items()]
        choice = [self.format.choice] if self.format.choice else []
        return [*lifted, *read_as, *choice, *remarks]


def _check_text(media: str | None) -> None:
    """Raises BadRecordError where this column holds something other than text."""
    if media is not None:
        raise BadRecordError(
            f"something other than text (column {media!r})",
            "remove the column to learn from the text alone",
        )


def _lifted(row: Mapping[str, Any], columns: Mapping[str, str], format: str | None) -> str:
    """The one column that holds the whole row, where its own columns are of no known format."""
    fields = Fields(row)
    if format or columns or sides(fields) is not None or _fitting(fields) is not None:
        return ""
    inner = [
        name
        for name, value in row.items()
        if isinstance(value, Mapping)
        and _fitting(Fields(cast("Mapping[str, Any]", value))) is not None
    ]
    return inner[0] if len(inner) == 1 else ""


def _raised(row: Mapping[str, Any], lifted: str) -> Mapping[str, Any]:
    """A row with what is inside one of its columns among its columns."""
    inner = row.get(lifted) if lifted else None
    if not isinstance(inner, Mapping):
        return row
    return {name: value for name, value in row.items() if name != lifted} | dict(
        cast("Mapping[str, Any]", inner)
    )


def kind_of(
    source: Source,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    streamed: bool = False,
) -> str:
    """Which kind of record a source holds, told by the columns of its first row.

    The plural, as ``load`` takes it.
    """
    if format:
        return _name_of(named(format).kind)
    first = next(read(source, limit=1, streamed=streamed))
    return _name_of(Reader.of(first.fields, name_of(source), columns=columns).format.kind)


def detect(row: Mapping[str, Any], source: str) -> Format:
    """The format whose columns this row has. Raises UserError where there is none."""
    return _detect(row if isinstance(row, Fields) else Fields(row), source)


def _detect(fields: Fields, source: str) -> Format:
    found = _fitting(fields)
    if found is not None:
        return found
    seen = ", ".join(map(str, fields.row)) or "none"
    both = sides(fields)
    if both is not None:
        text = holds_text(fields, *both)
        raise UserError(
            f"{source}: answers without a prompt. Columns seen: {seen}. Is one of "
            f"{', '.join(text)} the prompt? Say so with data.columns.prompt={text[0]} (of check: "
            f"columns.prompt={text[0]}); {MANUAL}"
        )
    expected = "; ".join(f"{entry.name}: {entry.expects}" for entry in FORMATS)
    raise UserError(
        f"{source}: unknown format. Columns seen: {seen}. Columns expected, one of: {expected}. "
        f"Rename the columns, say data.columns.prompt=NAME and the like, or name a format with "
        f"format=; {MANUAL}"
    )


def _fitting(fields: Fields) -> Format | None:
    return next((entry for entry in FORMATS if entry.fits(fields)), None)


def _kind(kind: type[Record] | str) -> type[Record]:
    if not isinstance(kind, str):
        return kind
    if kind not in KINDS:
        raise UserError(f"kind {kind!r} is not known; use {', '.join(KINDS)}")
    return KINDS[kind]


def named(name: str) -> Format:
    """The format of this name. Raises UserError for one that is not known."""
    for entry in FORMATS:
        if entry.name == name:
            return entry
    raise UserError(
        f"format={name!r} is not known; use one of {', '.join(known_formats())}; {MANUAL}"
    )


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
