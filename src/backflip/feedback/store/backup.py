"""Copies of the database while it is in use, and the way back.

SQLite's own online backup copies page by page and sees one consistent state; PostgreSQL has
pg_dump. A copy is checked before it takes its name.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, inspect

from backflip.errors import UserError
from backflip.feedback.store.database import Database, connect, engine_of, place_of

PAGES = 4096
"""Pages copied in one go: 16 MB."""


def backup(database: Database, to: Path) -> Path:
    """Copy the database to a new file, whole and checked. Raises UserError where one stands."""
    if to.exists():
        raise UserError(f"{to} exists; a backup never overwrites. Give another name.")
    to.parent.mkdir(parents=True, exist_ok=True)
    draft = to.with_name(to.name + ".part")
    draft.unlink(missing_ok=True)
    try:
        if database.path is not None:
            _copy(database.path, draft)
            check(draft)
        else:
            _run(database.url, "pg_dump", "--format=custom", "--no-owner", f"--file={draft}")
            _run(database.url, "pg_restore", "--list", str(draft), connected=False)
        _onto_disk(draft)
        os.replace(draft, to)
        _onto_disk(to.parent)
    finally:
        draft.unlink(missing_ok=True)
    return to


def restore(copy: Path, url: str | Path) -> Path | None:
    """Put a copy in the place of a database, and bring it to the present schema.

    SQLite: what stood there is moved aside, never deleted; where it lies now is returned.
    PostgreSQL: the database must be empty.

    Raises UserError where a server, or another program, has the database open.
    """
    if not copy.is_file():
        raise UserError(f"{copy} does not exist; name a backup file.")
    place, aside = place_of(url), None
    if place.get_backend_name() == "sqlite":
        check(copy)
        check_unused(Path(place.database or ""))
        aside = _replace(copy, Path(place.database or ""))
    else:
        _fill(copy, url)
    connect(url).close()
    return aside


def check_unused(file: Path) -> None:
    """Raises UserError where somebody has this SQLite database open.

    A server would go on writing into the file that was moved aside, and call it saved. Only who is
    alone may leave WAL mode.
    """
    if not file.exists():
        return
    with closing(sqlite3.connect(file, timeout=1)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError:
            raise UserError(
                f"{file} is in use: its server is running, or another program has it open. Stop "
                "that first; what raters answer until then would be lost."
            ) from None
        except sqlite3.DatabaseError:
            return  # too damaged to be in use, and moved aside as it is


def check(copy: Path) -> None:
    """Raises UserError unless the file is a whole SQLite database with the tables of this room."""
    try:
        with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchone()[0]
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        raise UserError(f"{copy} is not a whole SQLite database ({error}).") from None
    if found != "ok":
        raise UserError(f"{copy} is damaged ({found}); take another backup.")
    if not {"events", "answers", "alembic_version"} <= tables:
        raise UserError(f"{copy} is not a feedback database: it has no answers and no events.")


def _copy(source: Path, to: Path) -> None:
    with (
        closing(sqlite3.connect(source, timeout=60)) as old,
        closing(sqlite3.connect(to)) as new,
    ):
        old.backup(new, pages=PAGES)
        new.execute("PRAGMA journal_mode=DELETE")


def _replace(copy: Path, to: Path) -> Path | None:
    to.parent.mkdir(parents=True, exist_ok=True)
    aside = None
    if to.exists():
        aside = to.with_name(f"{to.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
        for suffix in ("", "-wal", "-shm"):
            old = to.with_name(to.name + suffix)
            if old.exists():
                os.replace(old, aside.with_name(aside.name + suffix))
    draft = to.with_name(to.name + ".part")
    shutil.copyfile(copy, draft)
    _onto_disk(draft)
    os.replace(draft, to)
    _onto_disk(to.parent)
    return aside


def _fill(copy: Path, url: str | Path) -> None:
    place = place_of(url)
    engine = engine_of(place)
    try:
        if inspect(engine).get_table_names():
            raise UserError("the database is not empty; restore into a new one (createdb NAME).")
        _run(place, "pg_restore", "--no-owner", "--single-transaction", str(copy))
    finally:
        engine.dispose()


def _run(place: URL, program: str, *arguments: str, connected: bool = True) -> None:
    """One of PostgreSQL's programs, its password out of sight of other users."""
    url = place.set(drivername="postgresql", password=None)
    where = [f"--dbname={url.render_as_string(hide_password=False)}"] if connected else []
    password = place.password
    environment = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    try:
        done = subprocess.run(
            [program, *where, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise UserError(f"{program} was not found; install PostgreSQL's client programs.") from None
    if done.returncode:
        raise UserError(f"{program} failed: {done.stderr.strip()[-500:]}")


def _onto_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
