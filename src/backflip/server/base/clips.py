"""Clips and pictures that somebody sends: which kinds, how large, and under which name.

A file is kept under its own name, cleaned, so that rows can speak of it. A file under a name
never changes: raters' answers are about just that. Its first bytes must be those of its kind.
"""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from backflip.errors import UserError
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.wording import cut, plain_name

HEAD = 32
"""First bytes that tell a kind."""
LONGEST = 100
"""Characters of a name without its ending."""
MOST_PAIRS = 5000
CHUNK = 1 << 20


@runtime_checkable
class Readable(Protocol):
    """An open file of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most ``size``; none at the end."""
        ...


def _starts(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(marks)


def _boxed(*brands: bytes) -> Callable[[bytes], bool]:
    """ISO base media (ISO 14496-12): a box named ftyp, with one of these brands; none: any."""
    return lambda head: head[4:8] == b"ftyp" and (not brands or head[8:12] in brands)


@dataclass(frozen=True)
class Kind:
    """A kind of file that browsers show."""

    type: str
    """Media type for browsers."""
    fits: Callable[[bytes], bool]
    """Whether a file that begins so is one."""

    @property
    def media(self) -> str:
        """Its name in items: image or video."""
        return self.type.partition("/")[0]


KINDS = {
    ".png": Kind("image/png", _starts(b"\x89PNG\r\n\x1a\n")),
    ".jpg": Kind("image/jpeg", _starts(b"\xff\xd8\xff")),
    ".jpeg": Kind("image/jpeg", _starts(b"\xff\xd8\xff")),
    ".gif": Kind("image/gif", _starts(b"GIF87a", b"GIF89a")),
    ".webp": Kind("image/webp", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
    ".avif": Kind("image/avif", _boxed(b"avif", b"avis")),
    ".mp4": Kind("video/mp4", _boxed()),
    ".mov": Kind("video/quicktime", _boxed()),
    ".webm": Kind("video/webm", _starts(b"\x1a\x45\xdf\xa3")),
    ".ogv": Kind("video/ogg", _starts(b"OggS")),
}
"""By the ending of a name. No SVG: it can hold scripts."""


def kind_of(name: str) -> Kind | None:
    """The kind that a name's ending says; none for all others."""
    return KINDS.get(Path(name).suffix.lower())


def safe_name(given: str) -> str:
    """A name of letters and digits of any script, dots and dashes, in no folder.

    Raises UserError for a kind that is not shown.
    """
    base = given.replace("\\", "/").rpartition("/")[2]
    suffix = Path(base).suffix.lower()
    if suffix not in KINDS:
        raise UserError(f"is no clip or picture that browsers show; use {', '.join(KINDS)}")
    stem = cut(plain_name(base[: -len(suffix)], signs="._-").strip(".-"), LONGEST)
    return f"{stem or 'clip'}{suffix}"


@dataclass(frozen=True)
class Kept:
    """Outcome of a file that was sent."""

    given: str
    """The name it came with."""
    name: str
    """The name it has; empty: it was refused."""
    said: str
    """In words for whoever sent it."""

    @property
    def kind(self) -> Kind | None:
        return kind_of(self.name)


def keep(folder: Path, given: str, data: Readable, room: int) -> Kept:
    """Store a file of at most ``room`` bytes below ``folder``, whole or not at all.

    A file that is there already with the same content is left alone; with another it is refused.
    Raises RefusedError where the disk is full.
    """
    shown = given[-LONGEST:]
    try:
        name = safe_name(given)
        draft = folder / f".{name}.{os.getpid()}-{id(data)}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _copy(data, draft, KINDS[Path(name).suffix], room)
            said = _settle(draft, folder / name)
        finally:
            draft.unlink(missing_ok=True)
    except UserError as error:
        return Kept(shown, "", str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RefusedError("full", "the disk is full; nothing more can be stored.") from error
    return Kept(shown, name, said)


def _copy(data: Readable, draft: Path, kind: Kind, room: int) -> None:
    head = data.read(HEAD)
    if not kind.fits(head):
        raise UserError(f"is not what its name says ({kind.type})")
    size = len(head)
    with draft.open("wb") as file:
        file.write(head)
        while block := data.read(CHUNK):
            size += len(block)
            if size > room:
                raise UserError(f"is larger than the {max(room, 0) // 2**20} MiB that are left")
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _settle(draft: Path, path: Path) -> str:
    """Give the file its name, unless that is taken: what stands there is never overwritten."""
    try:
        _name(draft, path)
    except FileExistsError:
        if filecmp.cmp(draft, path, shallow=False):
            return "was there already"
        raise UserError("another file has this name already; rename it and send it again") from None
    return "stored"


def _name(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with draft.open("rb") as source, path.open("xb") as target:
            shutil.copyfileobj(source, target)


@dataclass(frozen=True)
class Stored:
    """A clip of a project."""

    name: str
    bytes: int


def stored(folder: Path) -> list[Stored]:
    """All clips of a folder, 2 before 10."""
    found = folder.iterdir() if folder.is_dir() else ()
    files = [f for f in found if kind_of(f.name) and not f.name.startswith(".") and f.is_file()]
    sizes = [Stored(file.name, file.stat().st_size) for file in files]
    return sorted(sizes, key=lambda one: by_number(one.name))


def by_number(name: str) -> list[tuple[int, str]]:
    """Sorts walk-2 before walk-10."""
    return [
        (int(part), "") if part.isdigit() else (-1, part.lower())
        for part in re.split(r"(\d+)", name)
    ]


def pairs(names: Sequence[str], how: str) -> Iterator[dict[str, Any]]:
    """Items that compare these files: ``next`` two and two in order, ``every`` each with each.

    Pictures are compared with pictures and videos with videos. Raises UserError for too many.
    """
    ordered = sorted(set(names), key=lambda name: (_media(name), by_number(name)))
    for media, group in groupby(ordered, key=_media):
        files = list(group)
        found = list(pairwise(files))[::2] if how == "next" else list(combinations(files, 2))
        if len(found) > MOST_PAIRS:
            raise UserError(
                f"{len(files)} files make {len(found):,} pairs; "
                f"{MOST_PAIRS:,} at once are the limit"
            )
        for a, b in found:
            yield {"clips": [{"file": a, "media": media}, {"file": b, "media": media}]}


def _media(name: str) -> str:
    kind = kind_of(name)
    return kind.media if kind else ""
