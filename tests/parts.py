"""Parts of the system that not every machine has: a browser, a database server."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest


def need(missing: str) -> None:
    """Skip the test with the reason, if there is one; with BACKFLIP_ALL_PARTS set, fail."""
    if missing and os.environ.get("BACKFLIP_ALL_PARTS"):
        pytest.fail(f"{missing} (BACKFLIP_ALL_PARTS is set: nothing may be skipped)")
    if missing:
        pytest.skip(missing)


def shared_file(name: str) -> Path:
    """Public data that lie beside the repository, or where BACKFLIP_SHARED says; else a skip."""
    beside = Path(__file__).parents[2] / "shared"
    path = Path(os.environ.get("BACKFLIP_SHARED", beside)) / "data" / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no public data at {path}; set BACKFLIP_SHARED to the folder of them")
    return path


def shared_rows(name: str) -> list[dict[str, Any]]:
    """The rows of ``shared_file``."""
    with gzip.open(shared_file(name), "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
