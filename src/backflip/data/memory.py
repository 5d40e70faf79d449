"""Rows that are in memory: lists of mappings, tables of pandas, datasets of Hugging Face.

What trains reads files, so that a run can be resumed, and by somebody else too: ``recipes`` writes
rows in memory to a file that is named by its content.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from backflip.errors import UserError

NAME = "rows in memory"
PREFIX = "rows-"
"""How the files begin that rows in memory are written to; behind it stands their hash."""
BINARY = {"bytes": "…", "path": None}
"""Placeholder in a file for a picture or a sound, which no row of text holds."""


def is_rows(value: Any) -> bool:
    """Whether these are rows rather than the name of a source or a group of settings."""
    if isinstance(value, str | bytes | Path | Mapping) or value is None:
        return False
    return isinstance(value, Iterable)


def rows(value: Any) -> Iterator[dict[str, Any]]:
    """The rows one after the other, each of plain values. Raises UserError with the row's number.

    A list or another iterable of mappings, a ``datasets.Dataset`` or ``IterableDataset``, a
    pandas or polars table.
    """
    for number, row in enumerate(_records(value), start=1):
        if not isinstance(row, Mapping):
            raise UserError(
                f"{NAME}:{number}: a {type(row).__name__} instead of a mapping; give "
                '[{"prompt": …, "completion": …}, …]'
            )
        fields = cast("Mapping[Any, Any]", row).items()
        yield {str(name): _plain(one, f"{NAME}:{number}, {name}") for name, one in fields}


def _records(value: Any) -> Iterable[Any]:
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # pandas
        return value.to_dict("records")
    return value.iter_rows(named=True) if hasattr(value, "iter_rows") else value  # polars


def _plain(value: Any, where: str) -> Any:
    """A value as JSON has it; None where a table has a gap."""
    gap = isinstance(value, float) and math.isnan(value)
    if value is None or gap or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, str | bool | int | float | Path):
        return str(value) if isinstance(value, Path) else value
    if isinstance(value, Mapping):
        fields = cast("Mapping[Any, Any]", value).items()
        return {str(name): _plain(one, where) for name, one in fields}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, where) for one in cast("list[Any]", value)]
    if isinstance(value, bytes) or type(value).__module__.startswith("PIL."):
        return BINARY
    for name in ("tolist", "isoformat"):  # numpy and torch; times
        if hasattr(value, name):
            return _plain(getattr(value, name)(), where)
    raise UserError(f"{where}: a value of type {type(value).__name__}; give text, numbers, lists")
