"""Rows onto the disk: JSON lines, a JSON list, Parquet with columns of one type each, or CSV."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backflip.data.sources import write_jsonl, written_whole
from backflip.errors import UserError
from backflip.feedback.exchange.sheet import Sheet

SUFFIXES = (".jsonl.gz", ".jsonl", ".json", ".parquet", ".csv")
CHUNK = 2000
"""Rows of a Parquet file that are in memory at once."""
AS_JSON = ("payload", "value", "order", "gold", "verdicts", "words", "ratings")
"""Columns whose shape differs from row to row: text in Parquet."""


def check_suffix(path: Path, *, listed: bool) -> None:
    """Raises UserError for an ending that nothing is written to. ``listed``: no Parquet, no CSV."""
    known = SUFFIXES[:3] if listed else SUFFIXES
    if not path.name.lower().endswith(known):
        raise UserError(f"{path.name} has no ending that is known here; use {', '.join(known)}.")


def sidecar(path: Path) -> Path:
    """Where the account of an export stands: ``tone.jsonl`` has ``tone.jsonl.summary.json``."""
    return path.with_name(f"{path.name}.summary.json")


def write_rows(path: Path, rows: Iterator[dict[str, Any]], format: str, sheet: Sheet) -> int:
    """Write rows as they come; returns how many. The file appears whole or not at all.

    ``sheet``: counts what became of cells in CSV.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".csv":
        return written_whole(path, lambda draft: sheet.write(draft, rows))
    if path.suffix == ".parquet":
        return written_whole(path, lambda draft: _parquet(draft, rows, format))
    if path.suffix == ".json":
        return written_whole(path, lambda draft: _json(draft, rows))
    return write_jsonl(path, rows)


def write_summary(path: Path, made: Mapping[str, Any]) -> None:
    """An account as readable JSON."""
    text = json.dumps(made, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    written_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _json(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """A JSON list, a row a line, none of it held."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write("[\n" if count == 0 else ",\n")
            file.write(json.dumps(row, ensure_ascii=False))
            count += 1
        file.write("\n]\n" if count else "[]\n")
    return count


# ---- Parquet


def _parquet(path: Path, rows: Iterator[dict[str, Any]], format: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(rows, None)
    if first is None:
        path.touch()
        return 0
    schema = pa.schema([(name, _type(name, format)) for name in first])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        every = itertools.chain([first], rows)
        while chunk := list(itertools.islice(every, CHUNK)):
            writer.write_table(pa.Table.from_pylist([_flat(row) for row in chunk], schema))
            count += len(chunk)
    return count


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False)
        if name in AS_JSON and value is not None
        else value
        for name, value in row.items()
    }


def _type(name: str, format: str) -> Any:
    """The type of a column, the same in every file whatever its first rows hold."""
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    if name in AS_JSON:
        return text
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    provenance = [
        ("project", text),
        ("items", pa.list_(whole)),
        ("events", pa.list_(whole)),
        ("pinned", whole),
        ("rubric_versions", pa.list_(whole)),
        ("origins", pa.list_(text)),
        ("batches", pa.list_(text)),
        ("sources", pa.list_(text)),
        ("known", pa.bool_()),
        ("turn", whole),
    ]
    known: dict[str, Any] = {
        **dict.fromkeys(("prompt", "chosen", "rejected", "completion", "messages"), messages),
        "completions": pa.list_(messages),
        "rank": pa.list_(whole),
        "scores": pa.list_(real),
        "labels": pa.list_(pa.bool_()),
        "step_labels": pa.list_(whole),
        **dict.fromkeys(("label", "tie", "undecided", "surplus", "correct", "known"), pa.bool_()),
        **dict.fromkeys(("item", "event", "rubric_version", "repeat_of"), whole),
        **dict.fromkeys(("judgements", "sittings", "very_fast", "very_slow"), whole),
        **dict.fromkeys(("rater", "attribute"), text),
        "raters": pa.list_(text),
        **dict.fromkeys(("person", "stage", "project", "kind", "purpose", "origin", "batch"), text),
        "provenance": pa.struct(provenance),
    }
    plain: dict[str, dict[str, Any]] = {
        "hh": {"chosen": text, "rejected": text},
        "stepwise": {"prompt": text, "completions": pa.list_(text)},
    }
    return plain.get(format, {}).get(name, known.get(name, real))
