"""A person's own data: all of it to have, and all of it to forget.

Answers stay, under a pseudonym that nobody can resolve any more; that this was done is an event.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select, update

from backflip.feedback import events, people
from backflip.feedback.database import Database
from backflip.feedback.events import NewEvent
from backflip.feedback.schema import (
    Answers,
    Events,
    Identities,
    Memberships,
    Projects,
    Tokens,
)

OWN_WORDS = ("reason", "text", "content")
"""Keys of answers and events under which people write freely."""
REDACTED = "[redacted]"


def personal_data(database: Database, person: int) -> dict[str, Any]:
    """Everything that is kept about a person: identity, memberships, answers and events."""
    with database.read() as connection:
        who = people.get(connection, person)
        joined = connection.execute(
            select(Memberships, Projects.name)
            .join(Projects, Projects.id == Memberships.project_id)
            .where(Memberships.person_id == person)
        )
        memberships = [
            {
                "project": row.name,
                "role": row.role,
                "groups": row.groups,
                "state": row.state,
                "joined": row.joined,
            }
            for row in joined
        ]
        log = connection.execute(
            select(Events.id, Events.kind, Events.item_id, Events.body, Events.at)
            .where(Events.person_id == person)
            .order_by(Events.id)
        )
        return {
            "pseudonym": who.pseudonym,
            "name": who.name,
            "email": who.email,
            "erased": who.erased,
            "memberships": memberships,
            "events": [dict(row._mapping) for row in log],
        }


def erase(database: Database, person: int, *, texts: bool) -> None:
    """Empty the identity, take away all keys and memberships; ``texts``: and their own words.

    A written answer (``write``, ``talk``) is the work itself and stays unless ``texts`` is set; it
    is taken back then, since nothing would be left of it.
    """
    with database.write() as connection:
        who = people.get(connection, person)
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
        number = events.append(
            connection, database, None, NewEvent("redaction", person, body={"texts": texts})
        )
        if texts:
            _forget_words(connection, who.id, number)


def _forget_words(connection: Connection, person: int, number: int) -> None:
    """Replace what the person wrote, in answers and in the log."""
    rows = connection.execute(
        select(Answers.id, Answers.value, Answers.undone).where(Answers.person_id == person)
    ).all()
    for row in rows:
        value = _without(row.value)
        if value == row.value:
            continue
        taken = number if _is_work(row.value) else row.undone
        connection.execute(
            update(Answers).where(Answers.id == row.id).values(value=value, undone=taken)
        )
    log = connection.execute(select(Events.id, Events.body).where(Events.person_id == person)).all()
    for row in log:
        body = _without(row.body)
        if body != row.body:
            connection.execute(update(Events).where(Events.id == row.id).values(body=body))


def _is_work(value: dict[str, Any]) -> bool:
    """Whether the words are the answer itself: a reply or a conversation."""
    return "text" in value or "turns" in value


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
