"""Exports as files that a browser or a program takes away."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from backflip.errors import UserError
from backflip.feedback.exchange import exports
from backflip.server.base.auth import Place

FILES = {
    "jsonl": "application/x-ndjson",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "summary": "application/json",
}
"""Endings of exports, and what a browser is told that they are."""


def downloaded(here: Place, format: str, file: str) -> FileResponse:
    """The file, or the account beside it; both are gone once it has been sent."""
    if file not in FILES:
        raise UserError(f"there is no file type {file[:20]!r}; use {', '.join(FILES)}.")
    chosen = exports.format_of(here.project.settings.kind, format)
    account = file == "summary"
    if chosen.listed and file in ("csv", "parquet"):
        raise UserError(f"{format} is one JSON list, and no {file}; use file=json.")
    file = "json" if chosen.listed or account else file
    folder = Path(tempfile.mkdtemp(prefix="backflip-export-"))
    try:
        written = exports.export(here.project, format, folder / f"export.{file}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    path = written.summary if account else written.path
    name = f"{here.name}-{format}{'.summary' if account else ''}.{file}"
    tidy = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(path, media_type=FILES[file], filename=name, background=tidy)
