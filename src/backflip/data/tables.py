"""Tables as text: CSV with commas, semicolons, tabs or bars between the columns.

The header decides: which signs stand between cells and around them, and which columns there are.
A cell is text, whatever it looks like, but for what no text can be: a list or an object written as
JSON, and numbers and truth values in columns that hold such.

A spreadsheet takes a cell for a formula where it begins with = + - @. Tables that we write have an
apostrophe before such text (``guarded``), and it comes off again where we read our own.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from backflip.data.records import BadRecordError, Provenance, Tally
from backflip.errors import UserError
from backflip.text import counted

DELIMITERS = ",;\t|"
QUOTES = "\"'"
LONGEST_CELL = 1 << 24
NUMBERS = frozenset(
    (
        *("label", "labels", "rank", "score", "scores", "helpfulness", "margin", "p_chosen"),
        *("tie", "weight", "priority"),
    )
)
"""Columns that are never text."""
FORMULA = r"[\s\ufeff]*[=+\-@＝＋－＠]|[\t\r]"
"""How a text begins that a spreadsheet may take for a formula, or whose beginning it may eat."""
UNSAFE, GUARDED = re.compile(rf"'*(?:{FORMULA})"), re.compile(rf"''*(?:{FORMULA})")
OURS = ({"raters", "provenance"}, {"event", "item", "person", "value", "at", "payload", "kind"})
"""Columns by which a table is one of our exports."""


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe stands before what begins so."""
    return f"'{text}" if UNSAFE.match(text) else text


def unguarded(cell: str) -> str:
    """The text that ``guarded`` made a cell of."""
    return cell[1:] if GUARDED.match(cell) else cell


class Cells(dict[str, Any]):
    """The cells of a row under all columns of the header; none where a cell is empty.

    Asked for by ``[name]``, an empty cell says that it is empty, and not that it has no column.
    """

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if value is None:
            raise BadRecordError(f"cell {name!r} is empty", "fill it in, or remove the row")
        return value


@dataclass(frozen=True)
class Dialect:
    """The sign between cells and the quotes around them, as the header has them."""

    between: str
    quote: str
    columns: tuple[str, ...]


def rows(
    lines: Iterable[str], name: str, broken: Tally | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(Line on which the row ends, cells under every column) of each row that is not empty.

    Rows with more cells than the header are counted in ``broken``, where it is given.

    Raises:
        UserError: a column named twice, a row with more cells than the header, quotes that never
            close.

    """
    lines, begun = iter(lines), 0
    head = next(lines, "")
    told = re.fullmatch(r"sep=(.)\s*", head)  # a spreadsheet's own line before the header
    if told:
        head, begun = next(lines, ""), 1
    signs = told.group(1) if told else "\t,;|" if name.lower().endswith(".tsv") else DELIMITERS
    form = _dialect(head, signs)
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(
        itertools.chain([head], lines), delimiter=form.between, quotechar=form.quote, strict=True
    )
    try:
        columns = _columns(next(reader, list[str]()), name)
        ours = any(known <= set(columns) for known in OURS)
        for cells in reader:
            where = Provenance(name, reader.line_num + begun)
            if _fits(cells, columns, where, broken) and any(cells):
                filled = itertools.zip_longest(columns, cells, fillvalue="")
                found = Cells({c: _value(c, cell, ours) if cell else None for c, cell in filled})
                yield where.line, found
    except csv.Error as error:
        raise UserError(
            f"{name}:{reader.line_num + begun}: not a table ({error}); save it as CSV again"
        ) from error


def _fits(cells: list[str], columns: list[str], where: Provenance, broken: Tally | None) -> bool:
    """Whether every cell has a column, empty ones at the end cut off; else it is counted or told.

    Raises UserError where nobody counts.
    """
    while len(cells) > len(columns) and not cells[-1].strip():
        cells.pop()
    if len(cells) <= len(columns):
        return True
    fault = f"{len(cells)} cells under {counted(len(columns), 'column')}"
    if broken is None:
        raise UserError(
            f'{where}: {fault}; put quotes (") around a cell that holds the sign between columns'
        )
    broken.add(fault, where)
    return False


def _dialect(head: str, signs: str) -> Dialect:
    """The one of the signs, and the quotes, that cut the header into most names."""
    found = [
        Dialect(between, quote, tuple(cells))
        for quote in QUOTES
        for between in signs
        if (cells := _cut(head, between, quote)) is not None
    ]
    return max(found, key=_names, default=Dialect(signs[0], QUOTES[0], ()))


def _cut(head: str, between: str, quote: str) -> list[str] | None:
    """The header in cells; none where its quotes do not fit. It may go on in the next line."""
    opened = head.count(quote) % 2
    try:
        return next(
            csv.reader([head], delimiter=between, quotechar=quote, strict=not opened), list[str]()
        )
    except csv.Error:
        return None


def _names(form: Dialect) -> tuple[int, int]:
    """How many cells of a header look like names, and how many hold no sign of another table."""
    named = [cell for cell in form.columns if re.fullmatch(r"[^\W\d][^\"']*", cell.strip())]
    plain = [cell for cell in named if not re.search(r"[,;|\t]", cell)]
    return len(named), len(plain)


def _columns(head: list[str], name: str) -> list[str]:
    """Names of all columns; those at the end that have none are no columns.

    One without a name among the others is called by its place.
    """
    found = [column.strip() for column in head]
    while found and not found[-1]:
        found.pop()
    twice = sorted({column for column in found if column and found.count(column) > 1})
    if twice:
        raise UserError(f"{name}: the column {twice[0]!r} stands twice; name each column once")
    return [column or f"column {place}" for place, column in enumerate(found, start=1)]


def _value(column: str, cell: str, ours: bool) -> Any:
    if ours and GUARDED.match(cell):
        return unguarded(cell)
    bare = cell.strip()
    if column.lower() in NUMBERS:
        bare = bare.lower() if bare.lower() in ("true", "false") else bare
    elif not bare.startswith(("[", "{")):
        return cell
    try:
        return json.loads(bare)
    except (ValueError, RecursionError):
        return cell
