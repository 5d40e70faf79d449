"""The append-only log: what happened, in order, under pseudonyms.

An event number says how far somebody has read, or to which state a data set is pinned. Within a
project numbers become visible in rising order: on PostgreSQL whoever appends holds the project's
lock until the end of the transaction, or a reader could pass over a number still to come.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from backflip.feedback.store.database import Database, in_turn
from backflip.feedback.store.schema import AnyRow, Events, People, Projects
from backflip.feedback.store.wording import clean

_LOCK_SPACE = 7_239_105


@dataclass(frozen=True)
class Event:
    """One line of the log."""

    number: int
    project: str | None
    person: str | None
    """A pseudonym."""
    item: int | None
    kind: str
    body: dict[str, Any]
    at: float
    """Unix seconds."""
    rubric_version: int | None
    app_version: str

    def line(self) -> str:
        """The event as one line of JSON."""
        return json.dumps(self.__dict__, ensure_ascii=True)


@dataclass(frozen=True)
class NewEvent:
    """An event to be written down."""

    kind: str
    person: int | None = None
    item: int | None = None
    body: dict[str, Any] | None = None
    client_key: str | None = None
    version: int | None = None


def own_key(person: int, client_key: str | None) -> str | None:
    """A client's key, apart from everybody else's."""
    return f"{person}:{clean(client_key, 'client key', 64)}" if client_key else None


def append(connection: Connection, database: Database, project: int | None, event: NewEvent) -> int:
    """Write one event and return its number. The transaction should end soon after."""
    in_turn(connection, database, _LOCK_SPACE, project or 0)
    row = {
        "project_id": project,
        "person_id": event.person,
        "item_id": event.item,
        "kind": event.kind,
        "body": event.body or {},
        "client_key": event.client_key,
        "at": database.now(),
        "rubric_version": event.version,
        "app_version": database.app_version,
    }
    return connection.execute(_APPEND, row).scalar_one()


_APPEND = insert(Events).returning(Events.id)


def by_key(connection: Connection, client_key: str | None) -> AnyRow | None:
    """The event that a client's key belongs to, if it has arrived before."""
    if client_key is None:
        return None
    return connection.execute(_BY_KEY, {"key": client_key}).first()


_BY_KEY = select(Events.id, Events.kind, Events.item_id, Events.body).where(
    Events.client_key == bindparam("key")
)


def newest(connection: Connection, project: int) -> int:
    """The number of a project's last event; 0 before the first."""
    kept = connection.scalar(
        select(Events.id).where(Events.project_id == project).order_by(Events.id.desc()).limit(1)
    )
    return kept or 0


def read(
    database: Database,
    *,
    project: int | None = None,
    after: int = 0,
    until: int | None = None,
    kinds: Sequence[str] = (),
    item: int | None = None,
    newest: bool = False,
    limit: int = 1000,
) -> list[Event]:
    """Events with numbers above ``after`` and up to ``until``, in order; of all projects or one.

    ``newest``: from the end, the newest first.
    """
    query = (
        select(Events, Projects.name.label("project"), People.pseudonym)
        .outerjoin(Projects, Projects.id == Events.project_id)
        .outerjoin(People, People.id == Events.person_id)
        .where(Events.id > after)
        .order_by(Events.id.desc() if newest else Events.id)
        .limit(limit)
    )
    if item is not None:
        query = query.where(Events.item_id == item)
    if project is not None:
        query = query.where(Events.project_id == project)
    if until is not None:
        query = query.where(Events.id <= until)
    if kinds:
        query = query.where(Events.kind.in_(kinds))
    with database.read() as connection:
        return [_event(row) for row in connection.execute(query)]


def _event(row: AnyRow) -> Event:
    return Event(
        number=row.id,
        project=row.project,
        person=row.pseudonym,
        item=row.item_id,
        kind=row.kind,
        body=row.body,
        at=row.at,
        rubric_version=row.rubric_version,
        app_version=row.app_version,
    )


def export(database: Database, *, project: int | None = None, after: int = 0) -> Iterator[str]:
    """The log as lines of JSON, page by page, so that no length is too much."""
    while page := read(database, project=project, after=after):
        for event in page:
            yield event.line()
        after = page[-1].number
