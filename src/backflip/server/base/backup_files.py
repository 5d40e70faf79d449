"""Files of a server, and copies of its database together with its clips.

Clips are answers' other half and go along. Figures are worked out again; trained models and logs of
jobs stay where they are.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from sqlalchemy import URL

from backflip.errors import UserError
from backflip.feedback.projects.store import Store
from backflip.feedback.store import backup as databases
from backflip.feedback.store.database import place_of
from backflip.server.base.media import MEDIA

ENDING = "-files"
FORMER = "feedback"
"""The name that the folder of files had, whatever the database's."""


def files_of(place: URL) -> Path:
    """The folder of files that belongs to a database: NAME-files beside NAME.sqlite.

    PostgreSQL, and a database that was served before this rule: feedback-files in the current
    folder.
    """
    former = Path(FORMER + ENDING)
    if place.get_backend_name() != "sqlite" or not place.database:
        return former
    beside = _beside(Path(place.database))
    owned = Path(f"{FORMER}.sqlite").exists()  # the former folder is another database's
    return former if former.is_dir() and not beside.exists() and not owned else beside


def _beside(file: Path) -> Path:
    return file.with_name(file.stem + ENDING)


def backup(store: Store, to: Path, files: Path | None = None) -> list[Path]:
    """Copy the database to a file, and its clips into a folder beside; whole or not at all.

    The database comes first: clips are never changed, so all that it speaks of are there.
    """
    media = (files or files_of(store.database.url)) / MEDIA
    clips = _beside(to)
    if clips.exists():
        raise UserError(f"{clips} exists; a backup never overwrites. Give another name.")
    made = [store.backup(to)]
    if media.is_dir():
        try:
            _copy(media, clips / MEDIA)
        except BaseException:
            to.unlink()
            shutil.rmtree(clips, ignore_errors=True)
            raise
        made.append(clips)
    return made


def restore(
    copy: Path, url: str | Path, files: Path | None = None
) -> tuple[list[Path], list[Path]]:
    """Put a copy in the place of a database, and its clips among the files.

    Former files of either place are moved aside, never deleted. Returns the new place and
    that of the former. Raises UserError where a server is running on the database.
    """
    clips = _beside(copy) / MEDIA
    media = (files or files_of(place_of(url))) / MEDIA
    draft = media.with_name(f"{MEDIA}.part")
    if clips.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
        _copy(clips, draft)
    aside = databases.restore(copy, url)
    former = [aside] if aside else []
    if not clips.is_dir():
        return [copy], former
    if media.exists():
        former.append(media.with_name(f"{MEDIA}.replaced-{time.strftime('%Y%m%d-%H%M%S')}"))
        os.replace(media, former[-1])
    os.replace(draft, media)
    return [copy, clips.parent], former


def _copy(folder: Path, to: Path) -> None:
    """Copy finished clips into a folder that takes its name when all of them are on the disk."""
    draft = to.with_name(f".{to.name}.{os.getpid()}")
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(
            folder, draft, ignore=shutil.ignore_patterns(".*"), copy_function=_onto_disk
        )
        os.replace(draft, to)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"the clips of {folder} could not be copied: {error}") from error
        raise


def _onto_disk(source: str, to: str) -> str:
    shutil.copy2(source, to)
    with Path(to).open("rb") as file:
        os.fsync(file.fileno())
    return to
