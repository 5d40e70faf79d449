"""Readings that only pages need: the newest first, and what was said beside one item."""

from __future__ import annotations

from sqlalchemy import select

from backflip.feedback.events import Event
from backflip.feedback.projects import Project
from backflip.feedback.reading import ItemRow
from backflip.feedback.schema import Events, Items, Leases

REMARKS = ("flag", "note", "skip")


def newest_items(project: Project, count: int) -> list[ItemRow]:
    """The items that came last, the newest first."""
    query = (
        select(Items.id)
        .where(Items.project_id == project.id)
        .order_by(Items.id.desc())
        .limit(count)
    )
    with project.scope.database.read() as connection:
        ids = list(connection.scalars(query))
    return list(reversed(project.items(ids=ids, limit=count))) if ids else []


def newest_events(project: Project, count: int, *, before: int = 0, kind: str = "") -> list[Event]:
    """A page of the log, the newest first; ``before`` an event number, 0: from the end."""
    query = (
        select(Events.id)
        .where(Events.project_id == project.id)
        .order_by(Events.id.desc())
        .limit(count)
    )
    if before:
        query = query.where(Events.id < before)
    if kind:
        query = query.where(Events.kind == kind)
    with project.scope.database.read() as connection:
        ids = list(connection.scalars(query))
    if not ids:
        return []
    kinds = (kind,) if kind else ()
    found = project.events(after=ids[-1] - 1, until=ids[0], kinds=kinds, limit=count)
    return list(reversed(found))


def remarks(project: Project, item: int) -> list[Event]:
    """Flags, notes and skips of one item, in order."""
    query = (
        select(Events.id)
        .where(Events.project_id == project.id, Events.item_id == item, Events.kind.in_(REMARKS))
        .order_by(Events.id)
        .limit(200)
    )
    with project.scope.database.read() as connection:
        ids = list(connection.scalars(query))
    return [
        event for number in ids for event in project.events(after=number - 1, until=number, limit=1)
    ]


def holds(project: Project, person: int, item: int) -> bool:
    """Whether an item lies before this rater now."""
    query = select(Leases.item_id).where(
        Leases.person_id == person,
        Leases.item_id == item,
        Leases.project_id == project.id,
        Leases.state == "live",
    )
    with project.scope.database.read() as connection:
        return connection.scalar(query) is not None
