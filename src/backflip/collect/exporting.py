"""Answers as files: one row an answer, or what a trainer takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from backflip.data.errors import UserError
from backflip.data.sources import write_jsonl
from backflip.feedback.projects import Project

ANSWERS = "answers"
CHUNK = 2000
"""Rows of a Parquet file written at once."""


def offered(kind: str) -> list[tuple[str, str]]:
    """Formats that a kind can be exported to: name, and what it is."""
    del kind
    return [(ANSWERS, "Answers: one row each, with rater, order, time and rubric version")]


def rows(project: Project, format: str) -> Iterator[dict[str, Any]]:
    """Rows in a format. Raises UserError for one that the project's kind does not have."""
    if format not in dict(offered(project.settings.kind)):
        raise UserError(
            f"there is no format {format[:30]!r}; use one of "
            f"{', '.join(name for name, _ in offered(project.settings.kind))}."
        )
    return _answers(project)


def _answers(project: Project) -> Iterator[dict[str, Any]]:
    payloads: dict[int, dict[str, Any]] = {}
    for answer in project.answers():
        if answer.item not in payloads:
            payloads[answer.item] = project.item(answer.item).payload
        row = {**answer.__dict__, "order": list(answer.order)}
        yield row | {"project": project.name, "payload": payloads[answer.item]}


def write(project: Project, format: str, path: Path) -> int:
    """Write a file, JSON lines or Parquet by its ending; how many rows."""
    found = rows(project, format)
    return _parquet(found, path) if path.suffix == ".parquet" else write_jsonl(path, found)


def _parquet(found: Iterable[dict[str, Any]], path: Path) -> int:
    """Nested values become JSON text, so that no two rows differ in their columns."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = [
        {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
        for row in found
    ]
    if not flat:
        raise UserError("there are no answers yet.")
    pq.write_table(pa.Table.from_pylist(flat), path, row_group_size=CHUNK)
    return len(flat)
