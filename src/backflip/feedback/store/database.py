"""Transactions: SQLite by default, PostgreSQL by URL.

SQLite runs in WAL mode and admits one writer at a time: within a process writers queue at a lock,
which is fair where SQLite's own waiting is a lottery; between processes its busy timeout decides.
An acknowledged answer is on the disk (synchronous=FULL); a lease may be lost with the power.
"""

from __future__ import annotations

import math
import os
import secrets
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    OperationalError,
)

from backflip.errors import UserError
from backflip.feedback.store import migrate
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Table

T = TypeVar("T")
Clock = Callable[[], float]
BUSY_SECONDS = 30
"""How long a writer waits for another process."""
RESTED = 30.0
"""Seconds without work after which a connection to PostgreSQL is tried before it is used."""
_LOCKS: dict[str, threading.Lock] = {}
_RETRIES = 5
_MIGRATING = 7_239_104
"""PostgreSQL's advisory lock while the schema changes."""


@dataclass(frozen=True)
class Database:
    """Transactions on one database. Safe to use from many threads."""

    engine: Engine
    url: URL
    clock: Clock
    """Unix seconds; tests give their own."""
    lock: AbstractContextManager[Any]
    """Where the writers of this process queue."""
    cache: dict[Any, Any] = field(default_factory=dict)
    """Settings by project and version, which never change, and judgements read so far."""
    app_version: str = metadata.version("backflip")

    @property
    def embedded(self) -> bool:
        """Whether this is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @property
    def path(self) -> Path | None:
        """The file, where the database is one."""
        return Path(self.url.database) if self.embedded and self.url.database else None

    def now(self) -> float:
        return float(self.clock())

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent look at the database; on PostgreSQL each statement's own, committed."""
        with _refusing(), self.engine.connect() as connection:
            if not self.embedded:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """One transaction, kept whole or not at all. ``durable``: on the disk when it ends."""
        options = {"writing": True, "durable": durable}
        with _refusing():
            if not self.embedded:
                with self.engine.connect() as connection, connection.begin():
                    if not durable:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                    yield connection
                return
            with (
                self.lock,
                self.engine.connect().execution_options(**options) as connection,
                connection.begin(),
            ):
                yield connection

    def transact(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Run ``work`` in a transaction, again where two of them got in each other's way."""
        for attempt in range(_RETRIES):
            try:
                with self.write(durable=durable) as connection:
                    return work(connection)
            except (IntegrityError, OperationalError) as error:
                if attempt == _RETRIES - 1 or not _may_pass(error):
                    raise
                time.sleep(0.01 * 2**attempt * (0.5 + secrets.randbelow(1000) / 1000))
        raise AssertionError("the last attempt raises")

    def close(self) -> None:
        self.engine.dispose()


def in_turn(connection: Connection, database: Database, space: int, key: int) -> None:
    """Wait for other transactions with the same key, until this one ends.

    SQLite has one writer at a time anyway; PostgreSQL takes an advisory lock.
    """
    if not database.embedded:
        connection.execute(_TURN, {"space": space, "key": key})


_TURN = text("SELECT pg_advisory_xact_lock(:space, :key)")


def insert_into(table: type[Table], embedded: bool) -> Any:
    """An INSERT of the database's own kind, which has ON CONFLICT."""
    return (sqlite if embedded else postgresql).insert(table)


def connect(url: str | Path | None = None, *, clock: Clock = time.time) -> Database:
    """Open a database, make it if there is none, and bring it to the present schema."""
    place = place_of(url)
    embedded = place.get_backend_name() == "sqlite"
    key = str(Path(place.database or "").resolve()) if embedded else str(place)
    lock = _LOCKS.setdefault(key, threading.Lock())
    database = Database(engine_of(place), place, clock, lock)
    try:
        _migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def engine_of(place: URL) -> Engine:
    """Connections to a database, whether there is one or not."""
    return _sqlite(place) if place.get_backend_name() == "sqlite" else _postgresql(place)


def place_of(url: str | Path | None) -> URL:
    """Where a database is. None: $BACKFLIP_FEEDBACK, or feedback.sqlite in the current folder."""
    given = str(url or os.environ.get("BACKFLIP_FEEDBACK") or "feedback.sqlite")
    if "://" not in given:
        return URL.create("sqlite", database=str(Path(given).expanduser()))
    try:
        place = make_url(given)
    except ArgumentError:
        raise UserError(f"{given!r} is no database URL. Give a path or postgresql://…") from None
    kind = place.get_backend_name()
    if kind in ("postgresql", "postgres"):
        return place.set(drivername="postgresql+psycopg")
    if kind == "sqlite":
        return place
    raise UserError(f"databases of the kind {kind!r} are not known; use sqlite or postgresql.")


def _sqlite(place: URL) -> Engine:
    path = Path(place.database or "")
    if not place.database or place.database == ":memory:":
        raise UserError("a feedback database in memory would be lost; give a file.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file for the feedback database.")
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"check_same_thread": False, "timeout": BUSY_SECONDS}
    engine = create_engine(
        place, connect_args=arguments, pool_size=16, max_overflow=48, pool_timeout=60
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(raw: Any, _record: Any) -> None:
    """Transactions are begun by hand (``_begin``); Python's driver would begin them too late."""
    raw.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        "foreign_keys=ON",
        "synchronous=FULL",
        "cache_size=-32768",
        "temp_store=MEMORY",
        "mmap_size=268435456",
    ):
        raw.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("writing"):
        connection.exec_driver_sql("BEGIN")
        return
    level = "FULL" if options.get("durable", True) else "NORMAL"
    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgresql(place: URL) -> Engine:
    try:
        engine = create_engine(place, pool_size=16, max_overflow=48, pool_timeout=60)
    except ModuleNotFoundError:
        raise UserError("PostgreSQL needs psycopg: pip install 'backflip[feedback]'.") from None
    event.listen(engine, "connect", _by_index)
    event.listen(engine, "checkin", _rested)
    event.listen(engine, "checkout", _woken)
    return engine


def _by_index(raw: Any, _record: Any) -> None:
    """Every query of ours has an index. The planner's figures of tables that grew just now are too
    low, and it would read them whole for every item that a rater has had.
    """
    raw.execute("SET enable_seqscan = off")
    raw.commit()


def _rested(_raw: Any, record: Any) -> None:
    record.info["rested"] = time.monotonic()


def _woken(raw: Any, record: Any, _proxy: Any) -> None:
    """Try a connection that has rested for long, or on which PostgreSQL has said something: that it
    ends it, most likely. A question before every use would cost as much as the use.
    """
    told = select.select([raw.fileno()], [], [], 0)[0]
    if told or time.monotonic() - record.info.get("rested", math.inf) > RESTED:
        try:
            raw.execute("SELECT 1")
            raw.rollback()
        except Exception as error:
            raise DisconnectionError from error


def _migrate(database: Database) -> None:
    with database.read() as connection:
        if migrate.version_of(connection) == migrate.head():
            return
    with database.write() as connection:
        if not database.embedded:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
        migrate.upgrade(connection)


@contextmanager
def _refusing() -> Iterator[None]:
    """The database's complaints that a person can do something about, in plain words."""
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig).lower()
        if "disk is full" in said or "no space left" in said or "could not extend file" in said:
            raise RefusedError(
                "full", "the disk is full: nothing was stored. Make room, then send it again."
            ) from error
        if "database is locked" in said:
            raise RefusedError("busy", "the database is busy; send it again.") from error
        if "not a database" in said:
            raise UserError(
                "the file is not a feedback database (SQLite); name another."
            ) from error
        raise


def _may_pass(error: DBAPIError) -> bool:
    """Whether the same transaction may well pass now: a key taken meanwhile, or a deadlock."""
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, IntegrityError) or state in ("40001", "40P01", "55P03")
