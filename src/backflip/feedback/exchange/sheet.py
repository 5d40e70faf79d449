"""Rows as CSV that a spreadsheet opens as they are: RFC 4180, in UTF-8 with a byte order mark.

Excel takes a file without the mark for one of another century. Numbers stay numbers, lists and
objects are JSON in a cell, and text that would be a formula has an apostrophe before it, which our
own import takes off (``data.tables``).
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backflip.data.tables import guarded
from backflip.errors import UserError
from backflip.text import counted

LONGEST = 32_767
"""Letters of a cell that Excel and LibreOffice keep."""


@dataclass
class Sheet:
    """Cells that were written, and what was done to some of them."""

    guarded: int = 0
    """Texts with an apostrophe before them."""
    long: int = 0
    """Cells that a spreadsheet cuts."""
    nested: dict[str, None] = field(default_factory=dict[str, None])
    """Columns that hold JSON, in order."""

    def write(self, path: Path, rows: Iterator[Mapping[str, Any]]) -> int:
        """Write a table whose columns are those of the first row; returns the rows.

        Raises UserError where a later row has a column that the first has not.
        """
        first = next(rows, None)
        if first is None:
            path.touch()
            return 0
        columns, count = list(first), 0
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, lineterminator="\r\n")
            writer.writerow(columns)
            for row in itertools.chain([first], rows):
                if more := [name for name in row if name not in first]:
                    raise UserError(
                        f"row {count + 1} has a column {more[0]!r} that the first row has not; "
                        "write .jsonl instead."
                    )
                writer.writerow([self._cell(name, row.get(name)) for name in columns])
                count += 1
        return count

    def _cell(self, column: str, value: Any) -> str | int | float:
        match value:
            case None:
                return ""
            case bool():
                return "true" if value else "false"
            case int() | float():
                return value
            case str():
                text = guarded(value)
                self.guarded += text != value
            case _:
                text = json.dumps(value, ensure_ascii=False)
                self.nested[column] = None
        self.long += len(text) > LONGEST
        return text

    def lines(self) -> list[str]:
        """Remarks for a reader of the table, a sentence each."""
        found = list[str]()
        if self.nested:
            found.append(f"CSV: lists and objects stand as JSON in {', '.join(self.nested)}")
        if self.guarded:
            cells = counted(self.guarded, "cell has", "cells have")
            found.append(
                f"CSV: {cells} an apostrophe before text that a spreadsheet would take for a "
                "formula; importing the file here takes it off"
            )
        if self.long:
            cells = counted(self.long, "cell is", "cells are")
            found.append(
                f"CSV: {cells} longer than the {LONGEST:,} letters that spreadsheets keep; the "
                "file has them whole"
            )
        return found
