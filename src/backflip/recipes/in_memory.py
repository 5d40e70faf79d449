"""Recipes whose data is in memory: rows become files of the run, which it can go on with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from backflip.data.memory import NAME, PREFIX, is_rows, rows
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.recipes.load import load_recipe
from backflip.recipes.registry import Recipe
from backflip.training.run_folder import RunFolder

__all__ = ["kept", "written"]

SOURCES = ("data", "source", "validation", "golden")
"""Settings that may be rows."""
WAITING = "rows in memory, not written yet"


@contextmanager
def written(name: str | Path, given: Mapping[str, Any]) -> Generator[Recipe, None, None]:
    """A recipe with these settings, its rows in memory written to the run's folder.

    Where a mistake shows before the run begins, the files are gone again. Raises UserError.
    """
    if not _holds_rows(given):
        yield load_recipe(name, given)
        return
    run = load_recipe(name, _replaced(given, None, [])).run
    RunFolder(run).check_free()
    made: list[Path] = []
    new = not run.exists()
    try:
        yield load_recipe(name, {**_replaced(given, run, made), "run": str(run)})
    finally:
        if not RunFolder.holds_run(run):
            for path in made:
                path.unlink(missing_ok=True)
            if new and run.is_dir() and not any(run.iterdir()):
                run.rmdir()


def _is_source(name: Any, value: Any) -> bool:
    return isinstance(name, str) and name.rpartition(".")[2] in SOURCES and is_rows(value)


def _holds_rows(given: Mapping[str, Any]) -> bool:
    return any(
        _is_source(name, value) or (isinstance(value, Mapping) and _holds_rows(value))
        for name, value in given.items()
    )


def _replaced(given: Mapping[str, Any], run: Path | None, made: list[Path]) -> dict[str, Any]:
    """Settings with names of files where rows stood; without a run, a word in place of a name."""
    out: dict[str, Any] = {}
    for name, value in given.items():
        if _is_source(name, value):
            limit = given.get("limit") if name == "source" else None
            made += [kept(value, run, limit=limit)] if run else []
            out[name] = str(made[-1]) if run else WAITING
        else:
            out[name] = _replaced(value, run, made) if isinstance(value, Mapping) else value
    return out


def kept(value: Any, folder: Path, *, limit: int | None = None) -> Path:
    """Write rows into a folder, under a name that is the hash of what they say; at most ``limit``.

    Equal rows have the same name everywhere. Raises UserError for no rows.
    """
    draft = folder / f".{PREFIX}{os.getpid()}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if write_jsonl(draft, islice(rows(value), limit)) == 0:
            raise UserError(f"there are no {NAME}: give at least one")
        with draft.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return draft.replace(folder / f"{PREFIX}{content[:16]}.jsonl")
    except OSError as error:
        raise UserError(f"{folder} cannot hold {NAME}: {error.strerror or error}") from error
    finally:
        if draft.exists():
            draft.unlink()
