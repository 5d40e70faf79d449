"""Files that somebody sends: kept for the time of an import, under names of ours."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from starlette.datastructures import UploadFile

from backflip.data.sources import SUFFIXES
from backflip.errors import UserError
from backflip.feedback.store.wording import JOINERS

EXPANDED = 10
"""A gzip file may be so many times larger than an upload may be."""
OURS = "upload"
"""Name of a file that is kept."""
CHUNK = 1 << 20


def kept(upload: UploadFile, folder: Path, most: int) -> Path:
    """An upload as a file, under a name of ours with the ending of its own.

    Raises UserError for a kind that is not read, and where far more than ``most`` bytes unpack.
    """
    path = folder / f"{OURS}{suffix_of(upload.filename or '')}"
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
    return unpacked(path, EXPANDED * most)


def called(given: str) -> str:
    """The name of a file as its sender knows it: without folders and what cannot be shown."""
    name = given.replace("\\", "/").rpartition("/")[2]
    shown = "".join(c if c.isprintable() or c in JOINERS else " " for c in name).strip()
    return shown[-80:] or "the file"


def suffix_of(name: str) -> str:
    """The ending of an uploaded file's name. Raises UserError for a kind that is not read."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return suffix
    raise UserError(f"{name[-80:]!r} is no data file; use one ending in {', '.join(SUFFIXES)}")


def unpacked(path: Path, most: int) -> Path:
    """A gzip file unpacked beside itself, if it holds no more than ``most`` bytes (a gzip bomb)."""
    if path.suffix != ".gz":
        return path
    target, size = path.with_suffix(""), 0
    try:
        with gzip.open(path, "rb") as packed, target.open("wb") as plain:
            while block := packed.read(CHUNK):
                size += len(block)
                if size > most:
                    raise UserError(
                        f"unpacked, this file is larger than {most // 2**20} MiB; send it in parts"
                    )
                plain.write(block)
    except (EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"this is not whole gzip data ({error}); pack it again") from error
    return target
