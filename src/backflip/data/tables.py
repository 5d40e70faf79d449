"""Tables as text: CSV with commas, semicolons or tabs between the columns, as spreadsheets save it.

A cell is text, whatever it looks like, but for what no text can be: a list or an object written as
JSON, and numbers and truth values in columns that hold such.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from backflip.data.errors import UserError

DELIMITERS = ",;\t"
LONGEST_CELL = 1 << 24
NUMBERS = frozenset(
    ("label", "labels", "rank", "scores", "margin", "p_chosen", "tie", "weight", "priority")
)
"""Columns that are never text."""


def rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(Line on which the row ends, fields) of each row; empty cells and empty rows are left out.

    Raises:
        UserError: a column named twice, a row with more cells than the header, quotes that never
            close.

    """
    lines = iter(lines)
    head = next(lines, "")
    between = max(DELIMITERS, key=head.count)
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(itertools.chain([head], lines), delimiter=between, strict=True)
    try:
        columns = [column.strip() for column in next(reader, list[str]())]
        _check(columns, name)
        for cells in reader:
            if len(cells) > len(columns):
                raise UserError(
                    f"{name}:{reader.line_num}: {len(cells)} cells under {len(columns)} columns; "
                    'put quotes (") around a cell that holds the sign between columns'
                )
            found = {c: _value(c, cell) for c, cell in zip(columns, cells, strict=False) if cell}
            if found:
                yield reader.line_num, found
    except csv.Error as error:
        raise UserError(
            f"{name}:{reader.line_num}: not a table ({error}); save it as CSV again"
        ) from error


def _check(columns: list[str], name: str) -> None:
    if not any(columns):
        return
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise UserError(f"{name}: the column {twice[0]!r} stands twice; name each column once")


def _value(column: str, cell: str) -> Any:
    bare = cell.strip()
    if column in NUMBERS:
        bare = bare.lower() if bare.lower() in ("true", "false") else bare
    elif not bare.startswith(("[", "{")):
        return cell
    try:
        return json.loads(bare)
    except (ValueError, RecursionError):
        return cell
