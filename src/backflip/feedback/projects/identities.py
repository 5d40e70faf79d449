"""Identities: names, addresses and passwords behind pseudonyms, in a table that can be emptied.

Passwords are hashed with argon2. Functions here work inside the caller's transaction.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from sqlalchemy import Connection, func, insert, select, update

from backflip.errors import UserError
from backflip.feedback.store import events
from backflip.feedback.store.database import Database
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import AnyRow, Identities, People
from backflip.feedback.store.wording import clean

LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without those that look like another."""
SHAPE = re.compile(rf"r-[{LETTERS}]{{4,18}}")
"""Of a pseudonym."""
SHORTEST = 10
"""Characters of a password."""
LONGEST = 1000
HASHER = PasswordHasher()
NOBODY = HASHER.hash(secrets.token_urlsafe(16))
"""A hash for the passwords of strangers, so that their absence takes as long."""


@dataclass(frozen=True)
class Person:
    """Somebody who may sign in."""

    id: int
    pseudonym: str
    name: str
    """Empty for those who gave none and for erased people."""
    email: str
    admin: bool
    epoch: int
    """A session is over when its epoch is not this one."""
    erased: bool


PEOPLE = select(
    People.id,
    People.pseudonym,
    People.admin,
    Identities.name,
    Identities.email,
    Identities.password_hash,
    Identities.epoch,
    Identities.erased_at,
).join(Identities, Identities.person_id == People.id)


def get(connection: Connection, person: int) -> Person:
    """Raises RefusedError where there is none."""
    return one(connection, People.id == person)


def actor(connection: Connection, by: int | None) -> dict[str, Any]:
    """Who did something to somebody else, for the body of the event."""
    return {} if by is None else {"by": get(connection, by).pseudonym}


def check_not_last_admin(connection: Connection, person: int) -> None:
    """Raises RefusedError where nobody else could run the server."""
    admins = connection.execute(
        select(People.id)
        .join(Identities, Identities.person_id == People.id)
        .where(People.admin, Identities.erased_at.is_(None))
        .with_for_update(of=People)
    ).scalars()
    if set(admins) == {person}:
        raise RefusedError(
            "conflict", "this is the only admin of the server; make somebody else one first."
        )


def one(connection: Connection, condition: Any) -> Person:
    """The person of a condition. Raises RefusedError where there is none."""
    row = connection.execute(PEOPLE.where(condition)).first()
    if row is None:
        raise RefusedError("not_found", "there is no such person.")
    return person_of(row)


def person_of(row: AnyRow) -> Person:
    """A row of ``PEOPLE`` as a person."""
    return Person(
        id=row.id,
        pseudonym=row.pseudonym,
        name=row.name or "",
        email=row.email or "",
        admin=row.admin,
        epoch=row.epoch,
        erased=row.erased_at is not None,
    )


def add(
    connection: Connection,
    database: Database,
    name: str,
    email: str,
    hashed: str | None,
    *,
    admin: bool = False,
    pseudonym: str = "",
) -> Person:
    """A person with an identity, inside the caller's transaction."""
    address = address_of(email) or None
    check_free(connection, address or "")
    pseudonym = _pseudonym(connection, pseudonym)
    person = connection.execute(
        insert(People)
        .values(pseudonym=pseudonym, created=database.now(), admin=admin)
        .returning(People.id)
    ).scalar_one()
    called = clean(name, "name", 200)
    identity = {"person_id": person, "name": called, "email": address, "password_hash": hashed}
    connection.execute(insert(Identities), {**identity, "epoch": 0})
    events.append(connection, database, None, NewEvent("person", person, body={"admin": admin}))
    return Person(person, pseudonym, called, address or "", admin, 0, erased=False)


def check_free(connection: Connection, address: str, *, but: int = 0) -> None:
    """Raises RefusedError where an address belongs to somebody else."""
    taken = address and connection.scalar(
        select(Identities.person_id).where(Identities.email == address, Identities.person_id != but)
    )
    if taken:
        raise RefusedError("conflict", "somebody with this address is here already; sign in.")


def _pseudonym(connection: Connection, wished: str) -> str:
    """r-7f3k: four letters, more once those are getting scarce; the one wished for, if free."""
    if SHAPE.fullmatch(wished) and not connection.scalar(
        select(People.id).where(People.pseudonym == wished)
    ):
        return wished
    count = connection.scalar(select(func.count()).select_from(People)) or 0
    length = 4 if count < 50_000 else 7
    while True:
        name = "r-" + "".join(secrets.choice(LETTERS) for _ in range(length))
        if not connection.scalar(select(People.id).where(People.pseudonym == name)):
            return name


def hash_password(password: str) -> str:
    """Argon2id, with the library's present settings. Slow on purpose: never in a transaction."""
    if len(password) < SHORTEST:
        raise UserError(
            f"the password has {len(password)} characters; use at least {SHORTEST}, "
            "three or four unrelated words for example."
        )
    if len(password) > LONGEST:
        raise UserError(f"the password has more than {LONGEST} characters.")
    return HASHER.hash(password)


def set_hash(
    connection: Connection, person: int, hashed: str, *, new_epoch: bool, epoch: int | None = None
) -> None:
    """Keep a password's hash; ``new_epoch`` ends all sessions, ``epoch`` refuses another one."""
    query = (
        update(Identities)
        .where(Identities.person_id == person, Identities.erased_at.is_(None))
        .values(password_hash=hashed, epoch=Identities.epoch + int(new_epoch))
    )
    if epoch is not None:
        query = query.where(Identities.epoch == epoch)
    changed = connection.execute(query).rowcount
    if not changed:
        raise RefusedError("not_found", "there is no such person.")


def hash_of(token: str) -> str:
    """The hash under which a secret is kept."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def address_of(email: str) -> str:
    """An address as it is kept. Raises UserError for what is none."""
    address = clean(email, "address", 320).strip().lower()
    if address and "@" not in address:
        raise UserError(f"{address!r} is no e-mail address.")
    return address
