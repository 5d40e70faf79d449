"""Where rows come from: files of JSON, Parquet or CSV, Hugging Face's folders and hub, the package.

A source is text:
    ``path/to/rows.jsonl`` (also ``.jsonl.gz``, ``.json``, ``.parquet``, ``.csv``, ``.tsv``);
    a folder of such files; with ``:split``, or where their names say ``train``, those files only;
    a folder written by ``Dataset.save_to_disk``, with ``:split`` where it holds several;
    ``owner/name``, ``owner/name:split`` or ``owner/name:config:split`` on the hub (split: train);
    ``demo:comparisons`` and the like: what this package ships;
    ``task:sorting`` and the like: questions that a program makes;
    ``gym:chain_sum`` and the like: questions that reasoning-gym makes.
What exists on the disk is read from there, before any hub is asked.
"""

from __future__ import annotations

import gzip
import importlib.resources
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, cast

from backflip.data import memory, tables, tasks
from backflip.data.arrays import values
from backflip.data.hub import hub_answers, hub_refusal, offline_variable
from backflip.data.opening import opened
from backflip.data.records import Provenance, Tally
from backflip.errors import UserError
from backflip.progress import each, task

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv", ".tsv")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+){0,2}")
SPACES = 10_000
"""White space with which a JSON file may begin."""


@dataclass(frozen=True)
class Row:
    """Fields of one line, with its place."""

    where: Provenance
    fields: Mapping[str, Any]


Source: TypeAlias = str | Iterable[Any]
"""The name of a source, or rows in memory; see ``memory.rows``."""


def name_of(source: Source) -> str:
    """A source's name in messages."""
    return source if isinstance(source, str) else memory.NAME


def read(
    source: Source,
    *,
    limit: int | None = None,
    broken: Tally | None = None,
    called: str = "",
    streamed: bool = False,
) -> Iterator[Row]:
    """Rows of a source, one after the other, at most ``limit``.

    Malformed lines are counted in ``broken``, where it is given, and left out. ``called``: what a
    file is called in messages and in the rows' places, where that is not its path. ``streamed``: of
    the hub, fetch no more than is read.

    Raises:
        UserError: nothing there, no row in it, a malformed line (with its number), an unreachable
            hub.

    """
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit} rows; it must be at least 1")
    rows = _rows(source, broken, called, streamed=streamed)
    return islice(_any(rows, called or name_of(source), broken), limit)


def _any(rows: Iterator[Row], source: str, broken: Tally | None) -> Iterator[Row]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty and not (broken and broken.total):
        raise UserError(f"{source} is empty: write one row a line")


def _rows(source: Source, broken: Tally | None, called: str, *, streamed: bool) -> Iterator[Row]:
    if not isinstance(source, str):
        return _numbered(memory.rows(source), memory.NAME)
    if source.startswith("demo:"):
        return _demo(source.removeprefix("demo:"))
    if source.startswith(tasks.MADE):
        return _numbered(tasks.rows(source), source)
    path = Path(source).expanduser()
    if path.exists():
        return _local(path, None, broken, called)
    stem, _, split = source.rpartition(":")
    if stem and Path(stem).expanduser().is_dir():
        return _local(Path(stem).expanduser(), split, broken)
    if source.endswith(SUFFIXES) or not HUB_NAME.fullmatch(source):
        raise UserError(_nothing_there(source, path))
    return _hub(source, streamed=streamed)


def check_there(source: str) -> None:
    """Raises UserError for a source that is nowhere on this machine and no name of the hub."""
    if source.startswith("demo:"):
        _demo(source.removeprefix("demo:"))
        return
    if source.startswith(tasks.MADE):
        tasks.check(source)
        return
    path, stem = Path(source).expanduser(), source.rpartition(":")[0]
    there = path.exists() or (stem and Path(stem).expanduser().is_dir())
    if not there and (source.endswith(SUFFIXES) or not HUB_NAME.fullmatch(source)):
        raise UserError(_nothing_there(source, path))


def _nothing_there(source: str, path: Path) -> str:
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    stems = {_stem(name): name for name in names}
    close = get_close_matches(_stem(path.name), stems, n=1, cutoff=0.8)
    meant = f"did you mean {folder / stems[close[0]]}? Else " if close else ""
    where = "" if folder.is_dir() else f", nor the folder {folder}"
    advice = "give a path, or a hub name owner/name"
    return f"there is no file or folder {source}{where}; {meant}{advice}"


def _stem(name: str) -> str:
    """A name without the ending that all files of data share, which would make them look alike."""
    ends = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    return name.removesuffix(max(ends, key=len, default=""))


# ---- files


def _local(path: Path, split: str | None, broken: Tally | None, called: str = "") -> Iterator[Row]:
    if path.is_dir():
        return _folder(path, split, broken)
    return _file(path, called or str(path), broken)


def _file(path: Path, name: str, broken: Tally | None) -> Iterator[Row]:
    lower = path.name.lower()
    readers: dict[tuple[str, ...], Callable[[Path, str], Iterator[Row]]] = {
        (".jsonl", ".jsonl.gz"): partial(_jsonl, broken=broken),
        (".json", ".json.gz"): partial(_json, broken=broken),
        (".parquet",): _parquet,
        (".csv", ".tsv"): partial(_table, broken=broken),
    }
    for suffixes, reader in readers.items():
        if lower.endswith(suffixes):
            return _guarded(reader(path, name), name)
    raise UserError(f"{path} is not of a known kind; use a file ending in {', '.join(SUFFIXES)}")


def _guarded(rows: Iterator[Row], name: str) -> Iterator[Row]:
    """Turn what a broken file raises into one clear line."""
    try:
        yield from rows
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{name} is not whole gzip data ({error}); copy it again") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not UTF-8 text ({error.reason}); convert it to UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or error}") from error


def _jsonl(path: Path, name: str, *, broken: Tally | None = None) -> Iterator[Row]:
    with opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = Provenance(name, number)
            try:
                yield _row(line, where)
            except UserError:
                if broken is None:
                    raise
                broken.add("malformed line", where)


def _row(line: str, where: Provenance) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        seen, fault = line.strip()[:40], str(error)
        if isinstance(error, json.JSONDecodeError):
            fault = f"{error.msg.removesuffix(' at')}, character {error.colno}"
        raise UserError(
            f"{where}: malformed line, not JSON ({fault}); it begins with {seen!r}. Correct or "
            "remove the line"
        ) from error
    if not isinstance(fields, dict):
        raise UserError(
            f"{where}: malformed line, a JSON {type(fields).__name__} instead of an object; "
            'write {"column": value, …} on each line'
        )
    return Row(where, cast("dict[str, Any]", fields))


def _json(path: Path, name: str, *, broken: Tally | None = None) -> Iterator[Row]:
    """A JSON list of objects, or an object that holds one such list."""
    try:
        with opened(path) as file:
            listed = file.read(1).lstrip() or file.read(SPACES).lstrip()[:1]
            file.seek(0)
            data = values(file) if listed.startswith("[") else _only_list(json.loads(file.read()))
            if data is None:
                raise UserError(
                    f"{name} holds no list of rows; write [{{…}}, {{…}}], or one row per line"
                )
            for number, fields in enumerate(data, start=1):
                where = Provenance(name, number)
                if isinstance(fields, dict):
                    yield Row(where, cast("dict[str, Any]", fields))
                elif broken is not None:
                    broken.add("row that is no object", where)
                else:
                    raise UserError(f'{name}: row {number} is no object; write {{"column": value}}')
    except (UserError, UnicodeDecodeError):
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not JSON: {error}; is it JSONL? Then name it .jsonl") from error


def _only_list(data: Any) -> Iterator[Any] | None:
    """The one list in an object."""
    inside = cast("dict[str, Any]", data).values() if isinstance(data, dict) else ()
    lists = [cast("list[Any]", value) for value in inside if isinstance(value, list)]
    return iter(lists[0]) if len(lists) == 1 else None


def _table(path: Path, name: str, *, broken: Tally | None = None) -> Iterator[Row]:
    with opened(path, newline="") as lines:
        for number, fields in tables.rows(lines, name, broken):
            yield Row(Provenance(name, number), fields)


def _parquet(path: Path, name: str) -> Iterator[Row]:
    pa: Any = import_module("pyarrow")
    pq: Any = import_module("pyarrow.parquet")
    try:
        with pq.ParquetFile(path) as file:
            rows = (fields for batch in file.iter_batches() for fields in batch.to_pylist())
            told = each(rows, f"reading {path.name}", file.metadata.num_rows, "rows")
            for number, fields in enumerate(told, start=1):
                yield Row(Provenance(name, number), fields)
    except pa.ArrowException as error:
        raise UserError(f"{name} is not whole Parquet data: {_first_line(error)}") from error


def _folder(path: Path, split: str | None, broken: Tally | None) -> Iterator[Row]:
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return _saved_dataset(path, split)
    files = sorted(entry for entry in path.rglob("*") if entry.name.lower().endswith(SUFFIXES))
    names = [file.relative_to(path).as_posix() for file in files]
    if split is None and any("train" in name for name in names):
        split = "train"
    if split:
        files = [file for file, name in zip(files, names, strict=True) if split in name]
    if not files:
        wanted = f" for the split {split!r}" if split else ""
        raise UserError(
            f"folder {path} holds no data{wanted}; expected {', '.join(SUFFIXES)} files"
        )
    return (row for file in files for row in _file(file, str(file), broken))


def _saved_dataset(path: Path, split: str | None) -> Iterator[Row]:
    try:
        data: Any = import_module("datasets").load_from_disk(str(path))
    except Exception as error:
        raise UserError(f"{path} is not a whole dataset folder: {_first_line(error)}") from error
    if isinstance(data, Mapping):
        data = _split_of(cast("Mapping[str, Any]", data), split, str(path))
    return _numbered(data, str(path))


def _split_of(splits: Mapping[str, Any], split: str | None, name: str) -> Any:
    wanted = split or ("train" if "train" in splits or len(splits) > 1 else next(iter(splits)))
    if wanted not in splits:
        raise UserError(
            f"{name} has no split {wanted!r}; it has {', '.join(splits)}. Write {name}:SPLIT"
        )
    return splits[wanted]


def _numbered(data: Iterable[Any], name: str) -> Iterator[Row]:
    total = len(data) if isinstance(data, Sized) else None
    told = each(data, f"reading {name}", total, "rows")
    return (Row(Provenance(name, number), row) for number, row in enumerate(told, start=1))


def _demo(name: str) -> Iterator[Row]:
    folder = importlib.resources.files("backflip") / "demo"
    file = folder / f"{name}.jsonl"
    if not file.is_file():
        names = sorted(
            e.name.removesuffix(".jsonl") for e in folder.iterdir() if ".jsonl" in e.name
        )
        known = ", ".join(f"demo:{entry}" for entry in names)
        raise UserError(f"there is no demo:{name}; there are {known}")
    with importlib.resources.as_file(file) as path:
        return iter(list(_guarded(_jsonl(path, f"demo:{name}"), f"demo:{name}")))


# ---- the hub


def _hub(source: str, *, streamed: bool) -> Iterator[Row]:
    name, *rest = source.split(":")
    config = rest[0] if len(rest) == 2 else None
    split = rest[-1] if rest else "train"
    if not offline_variable("dataset") and not hub_answers():
        raise UserError(hub_refusal("dataset", source))
    try:
        hub: Any = import_module("datasets")
        hub.disable_progress_bars()  # ours says that it is loading, among the other bars
        with task(f"loading {name} from the hub"):
            how = {"streaming": True} if streamed else {}
            data: Any = hub.load_dataset(name, config, split=split, **how)
    except Exception as error:
        raise UserError(hub_refusal("dataset", source, error)) from error
    return _fetched(data, source)


def _fetched(data: Iterable[Any], source: str) -> Iterator[Row]:
    """The rows; a network that fails on the way, while they are streamed, is said in a line."""
    try:
        yield from _numbered(data, source)
    except Exception as error:
        raise UserError(hub_refusal("dataset", source, error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ---- writing


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSONL, gzipped if the name ends in ``.gz``; returns how many.

    The file appears whole or not at all. Raises UserError where the disk refuses.
    """
    path = Path(path)

    def write(draft: Path) -> int:
        count = 0
        with draft.open("wb") as raw:
            zipped = path.suffix == ".gz"
            stream = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if zipped else raw
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
                count += 1
            if zipped:
                stream.close()
        return count

    return written_whole(path, write)


def written_whole(path: Path, write: Callable[[Path], int]) -> int:
    """Let ``write`` fill a file beside ``path``, then give it that name; what it returned.

    The file appears whole or not at all. Raises UserError where the disk refuses.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        count = write(draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return count
