"""The columns of a row: under which names they are found, and which of them nobody has read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from backflip.data.conversations import is_conversation, is_message
from backflip.data.media import is_media, names_file
from backflip.data.records import BadRecordError
from backflip.data.turns import KEYS
from backflip.errors import UserError

PROMPTS = (
    *("prompt", "question", "query", "instruction", "input", "problem"),
    *("user_prompt", "user_input", "user_message"),
)
"""Names of the column that was asked, the likeliest first."""
CONTEXTS = ("messages", "conversations", "conversation", "context", "history")
"""Names of a column with the turns before an answer."""


@lru_cache(maxsize=10_000)
def plain(name: str) -> str:
    """A column's name in lower case, with one sign between words."""
    return re.sub(r"[\s-]+", "_", name.strip()).lower()


class Fields(Mapping[str, Any]):
    """The columns of a row by their plain names, and a note of those that were read.

    Args:
        row: what the source holds.
        columns: which column stands for which name; ``{"prompt": "ask"}`` hides a column prompt.
            ``a.b`` is the key b inside the column a.

    """

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> None:
        self.row = row
        self.read = set[str]()
        """Columns of the row, by their own names."""
        self.kept = set[str]()
        """Columns among them that judges of answers ask for as well."""
        self.remarks = list[str]()
        """Remarks on how the row was read."""
        self._inside = list[tuple[str, Fields]]()
        self._real: dict[str, str] = {}
        for column in row:
            name = plain(column)
            if name == column or name not in self._real:
                self._real[name] = column
        for column in (columns or {}).values():
            self._real.pop(plain(column), None)
        self._real |= columns or {}

    def __getitem__(self, name: str) -> Any:
        column = self._real[name]
        self.read.add(column if column in self.row else column.partition(".")[0])
        # a row of a table is asked itself: it says of an empty cell that it is empty
        value = self.row[column] if column in self.row else at(self.row, column)
        return None if _is_nan(value) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._real)

    def __len__(self) -> int:
        return len(self._real)

    def __contains__(self, name: object) -> bool:
        return name in self._real

    def get(self, name: str, default: Any = None) -> Any:
        """A column's value, which is read; ``default`` where there is none, or it is null."""
        value = self.peek(name)
        if name in self._real:
            self.read.add(self._real[name].partition(".")[0])
            self.read.add(self._real[name])
        return default if value is None else value

    def keep(self, name: str) -> Any:
        """As ``get``; the column stays with the record, for its judges."""
        self.kept.add(self.column(name))
        return self.get(name)

    def peek(self, name: str) -> Any:
        """A column's value, or None, without its being read."""
        return at(self.row, self._real[name]) if name in self._real else None

    def column(self, name: str) -> str:
        """How the source calls the column of this name."""
        return self._real.get(name, name)

    def first(self, names: Iterable[str]) -> str | None:
        """The first of these columns that holds something; None where none does."""
        return next((name for name in names if not is_empty(self.peek(name))), None)

    def inside(self, name: str) -> list[Fields]:
        """The mappings in a column, whose keys are noted as its columns are."""
        value = self[name]
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        several: Sequence[Any] = cast("Sequence[Any]", value) if listed else [value]
        if not all(isinstance(one, Mapping) for one in several):
            raise BadRecordError(f"column {name!r} holds something other than objects")
        made = [Fields(cast("Mapping[str, Any]", one)) for one in several]
        mark = "[]" if listed else ""
        self._inside += [(f"{self.column(name)}{mark}", one) for one in made]
        return made

    def unread(self) -> Iterator[str]:
        """Columns, and keys of messages and of objects in columns, that hold something unread."""
        opened = {column.removesuffix("[]") for column, _ in self._inside}
        for column, value in self.row.items():
            if column not in self.read and not is_empty(value):
                yield str(column)
            elif column in self.read and column not in opened:
                yield from (f"{column}[].{key}" for key in _unread_keys(value))
        for column, fields in self._inside:
            yield from (f"{column}.{name}" for name in fields.unread())


def at(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of the key inside it that ``a.b`` names; None for none and NaN."""
    value: Any = row
    for part in [column] if column in row else column.split("."):
        value = cast("Mapping[str, Any]", value).get(part) if isinstance(value, Mapping) else None
    return None if _is_nan(value) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def is_empty(value: Any) -> bool:
    """Whether a column says nothing in this row."""
    return (
        value is None
        or _is_nan(value)
        or (isinstance(value, str | list | tuple | dict) and not value)
    )


def _unread_keys(value: Any) -> Iterator[str]:
    """Keys of messages that nobody reads, each once."""
    if is_message(value):
        value = [value]
    if is_conversation(value):
        rows = cast("list[Any]", value)
        turns: list[Mapping[str, Any]] = [turn for turn in rows if isinstance(turn, Mapping)]
        keys = (key for turn in turns for key, held in turn.items() if not is_empty(held))
        yield from dict.fromkeys(str(key) for key in keys if key not in KEYS)
    elif isinstance(value, list | tuple):
        for one in cast("Sequence[Any]", value):
            if is_conversation(one):
                yield from _unread_keys(one)


def other_media(fields: Fields) -> str | None:
    """The column whose name says pictures, sound or film; None where the row is text alone."""
    names = (str(c) for c, value in fields.row.items() if is_media(plain(str(c)), value))
    return next(names, None)


def unread_media(fields: Fields) -> str | None:
    """The column that nobody read and that names a file of pictures, sound or film."""
    names = (str(c) for c, v in fields.row.items() if c not in fields.read and names_file(v))
    return next(names, None)


def check_columns(columns: Mapping[str, str], row: Mapping[str, Any], source: str) -> None:
    """Raises UserError where a column that is to be read is not in the row."""
    for name, column in columns.items():
        if column not in row and column.partition(".")[0] not in row:
            raise UserError(
                f"{source}: columns.{name}={column}, but there is no column {column!r}; columns "
                f"seen: {', '.join(map(str, row)) or 'none'}"
            )
