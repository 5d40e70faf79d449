"""A person's own data: all of it to have, and all of it to forget.

Answers stay, under a pseudonym that nobody can resolve any more; that this was done is an event.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select, update

from backflip.feedback.projects import identities
from backflip.feedback.rating import rater_actions
from backflip.feedback.store import events, tallies
from backflip.feedback.store.database import Database
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.schema import (
    Answers,
    Events,
    Identities,
    Items,
    Memberships,
    Projects,
    Tokens,
)

OWN_WORDS = ("reason", "text", "content")
"""Keys of answers and events under which people write freely."""
REDACTED = "[redacted]"
TELLING = ("correct", "repeat_of", "seed", "recent")
"""Parts of events that would tell which items are gold, or come again."""


def personal_data(database: Database, person: int) -> dict[str, Any]:
    """Everything that is kept about a person: identity, memberships, answers and events.

    Items have the numbers by which the person knows them. How many of them were gold is told, and
    how many of these were right; which they were is not, since they are asked of others.
    """
    with database.read() as connection:
        who = identities.get(connection, person)
        joined = connection.execute(
            select(Memberships, Projects.name)
            .join(Projects, Projects.id == Memberships.project_id)
            .where(Memberships.person_id == person)
        ).all()
        members = {
            row.project_id: ProjectRef(database, row.project_id, row.name).member(
                connection, person
            )
            for row in joined
        }
        memberships = [
            {
                "project": row.name,
                "role": row.role,
                "groups": row.groups,
                "state": row.state,
                "joined": row.joined,
                "gold": tallies.read(
                    connection, row.project_id, person, ("gold_seen", "gold_right")
                ),
            }
            for row in joined
        ]
        return {
            "pseudonym": who.pseudonym,
            "name": who.name,
            "email": who.email,
            "erased": who.erased,
            "memberships": memberships,
            "events": _events(connection, person, members),
        }


def _events(
    connection: Connection, person: int, members: dict[int, Member | None]
) -> list[dict[str, Any]]:
    """All that a person did, without what would spoil the gold."""
    log = connection.execute(
        select(Events.id, Events.project_id, Events.kind, Events.item_id, Events.body, Events.at)
        .where(Events.person_id == person)
        .order_by(Events.id)
    )
    found = list[dict[str, Any]]()
    for row in log:
        member = members.get(row.project_id)
        item = member.alias(row.item_id) if member and row.item_id is not None else None
        body = {name: value for name, value in row.body.items() if name not in TELLING}
        found.append({"id": row.id, "kind": row.kind, "item": item, "body": body, "at": row.at})
    return found


def erase(database: Database, person: int, *, texts: bool, by: int | None = None) -> None:
    """Empty the identity, take away all keys and memberships; ``texts``: and their own words.

    A written answer (``write``, ``talk``) is the work itself and stays unless ``texts`` is set; it
    is taken back then, since nothing would be left of it, and its item is asked again. ``by``: who
    does so, where it is somebody else. The last admin stays, or nobody could run the server.
    """

    def work(connection: Connection) -> None:
        if identities.get(connection, person).admin:
            identities.check_not_last_admin(connection, person)
        body = {"texts": texts, **identities.actor(connection, by)}
        connection.execute(
            update(Identities)
            .where(Identities.person_id == person)
            .values(
                name=None,
                email=None,
                password_hash=None,
                erased_at=database.now(),
                epoch=Identities.epoch + 1,
            )
        )
        connection.execute(delete(Tokens).where(Tokens.person_id == person))
        connection.execute(
            update(Memberships).where(Memberships.person_id == person).values(state="removed")
        )
        if texts:
            _take_back_work(connection, database, person)
            _forget_words(connection, person)
        events.append(connection, database, None, NewEvent("redaction", person, body=body))

    database.transact(work)


def _take_back_work(connection: Connection, database: Database, person: int) -> None:
    """Take back every answer whose words are the answer itself: a reply or a conversation."""
    query = (
        select(Answers, Projects.name)
        .join(Projects, Projects.id == Answers.project_id)
        .where(Answers.person_id == person, Answers.undone.is_(None))
        .order_by(Answers.project_id, Answers.id)
    )
    written = [
        row for row in connection.execute(query) if "text" in row.value or "turns" in row.value
    ]
    numbers = [row.item_id for row in written]
    # All items before the first event: whoever answers locks the item, then the log.
    locked = select(Items).where(Items.id.in_(numbers)).order_by(Items.id).with_for_update()
    connection.execute(locked)
    for row in written:
        ref = ProjectRef(database, row.project_id, row.name)
        item = connection.execute(select(Items).where(Items.id == row.item_id)).one()
        body = {"answer": row.id, "redaction": True}
        new = NewEvent("undo", person, item.id, body)
        rater_actions.take_back(connection, ref, row, item, new, leased=False)


def _forget_words(connection: Connection, person: int) -> None:
    """Replace what the person wrote, in answers and in the log."""
    for table, column in ((Answers, Answers.value), (Events, Events.body)):
        rows = connection.execute(select(table.id, column).where(table.person_id == person)).all()
        for number, kept in rows:
            left = _without(kept)
            if left != kept:
                connection.execute(
                    update(table).where(table.id == number).values({column.key: left})
                )


def _without(part: Any) -> Any:
    """The same with free text replaced; what was empty stays empty."""
    if isinstance(part, dict):
        return {
            name: REDACTED
            if name in OWN_WORDS and isinstance(value, str) and value
            else _without(value)
            for name, value in part.items()
        }
    return [_without(value) for value in part] if isinstance(part, list) else part
