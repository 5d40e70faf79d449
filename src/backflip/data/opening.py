"""Files of text, opened so that it shows how far they are read."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from backflip.progress import task


@contextmanager
def opened(path: Path, newline: str | None = None) -> Generator[io.TextIOWrapper, None, None]:
    """The text of a file, unzipped where its name ends in ``.gz``; ``newline`` as in ``open``.

    How far it is read is asked of the file itself, so that rows cost nothing more.
    """
    with path.open("rb") as raw:
        size, number = path.stat().st_size, raw.fileno()

        def position() -> int:
            return os.lseek(number, 0, os.SEEK_CUR)

        zipped = path.suffix.lower() == ".gz"
        stream = cast("io.BufferedReader", gzip.GzipFile(fileobj=raw) if zipped else raw)
        with task(f"reading {path.name}", size, "bytes", position=position):
            yield io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline)
