"""People: pseudonyms in the log, names in a table of their own that can be emptied.

Passwords are hashed with argon2; invitations and API tokens are random and stored as hashes, so
that a stolen database opens no door.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, delete, func, insert, select, update

from backflip.errors import UserError
from backflip.feedback.store import events
from backflip.feedback.store.database import Database, insert_into
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import AnyRow, EndedSessions, Identities, People, Tokens
from backflip.feedback.store.wording import clean

LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without those that look like another."""
SHAPE = re.compile(rf"r-[{LETTERS}]{{4,18}}")
"""Of a pseudonym."""
SHORTEST = 10
"""Characters of a password."""
LONGEST = 1000
KEPT_ENDED = 400 * 86_400.0
"""Seconds for which an ended session is remembered: longer than any cookie is good."""
TOUCH_SECONDS = 60
"""A token's last use is written down no more often."""
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash(secrets.token_urlsafe(16))
"""What a stranger's password is compared with, so that their absence takes as long."""


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


@dataclass(frozen=True)
class Roster:
    """The people of a database."""

    database: Database

    def add(
        self,
        *,
        name: str = "",
        email: str = "",
        password: str = "",
        admin: bool = False,
        pseudonym: str = "",
    ) -> Person:
        """A new person. ``pseudonym``: the one they had elsewhere, kept where it is free here."""
        hashed = hash_password(password) if password else None
        with self.database.write() as connection:
            return add(
                connection, self.database, name, email, hashed, admin=admin, pseudonym=pseudonym
            )

    def get(self, person: int) -> Person:
        """Raises RefusedError where there is none."""
        with self.database.read() as connection:
            return get(connection, person)

    def named(self, pseudonym: str) -> Person:
        """By the name in the log."""
        with self.database.read() as connection:
            return _one(connection, People.pseudonym == pseudonym)

    def by_email(self, email: str) -> Person | None:
        """For single sign-on, whose proxy has checked who it is."""
        with self.database.read() as connection:
            row = connection.execute(_PEOPLE.where(Identities.email == _email(email))).first()
        return _person(row) if row else None

    def count(self) -> int:
        """How many there are: 0 means that the first to come is the admin."""
        with self.database.read() as connection:
            return connection.scalar(select(func.count()).select_from(People)) or 0

    def everybody(self) -> list[Person]:
        """All who are not erased, in the order in which they came."""
        query = _PEOPLE.where(Identities.erased_at.is_(None)).order_by(People.id)
        with self.database.read() as connection:
            return [_person(row) for row in connection.execute(query)]

    def sign_in(self, email: str, password: str) -> Person | None:
        """Who this is; none where address and password do not belong together."""
        with self.database.read() as connection:
            row = connection.execute(_PEOPLE.where(Identities.email == _email(email))).first()
        kept = row.password_hash if row and row.password_hash else _NOBODY
        try:
            _HASHER.verify(kept, password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return None
        if row is None or kept is _NOBODY:
            return None
        if _HASHER.check_needs_rehash(kept):
            with self.database.write() as connection:
                _set_hash(connection, row.id, hash_password(password), new_epoch=False)
        return _person(row)

    def set_password(self, person: int, password: str, *, epoch: int | None = None) -> None:
        """A new password; every older session is over, and every token is withdrawn.

        ``epoch``: refuse where it is another by now, so that a link sets a password once.
        """
        hashed = hash_password(password)
        with self.database.write() as connection:
            _set_hash(connection, person, hashed, new_epoch=True, epoch=epoch)
            gone = connection.execute(delete(Tokens).where(Tokens.person_id == person)).rowcount
            new = NewEvent("password", person, body={"tokens withdrawn": gone})
            events.append(connection, self.database, None, new)

    def signed_in(self, person: int, epoch: int, nonce: str) -> Person | None:
        """Whose session this is; none where a new password, an erasure or signing out ended it."""
        ended = select(EndedSessions.nonce_hash).where(EndedSessions.nonce_hash == _hash(nonce))
        alive = (People.id == person, Identities.epoch == epoch, Identities.erased_at.is_(None))
        with self.database.read() as connection:
            row = connection.execute(_PEOPLE.where(*alive, ~ended.exists())).first()
        return _person(row) if row else None

    def end_session(self, nonce: str) -> None:
        """Nobody is signed in by this session any more, whoever has a copy of its cookie."""
        now = self.database.now()
        row = {"nonce_hash": _hash(nonce), "until": now + KEPT_ENDED}
        new = insert_into(EndedSessions, self.database.embedded).values(row)
        with self.database.write() as connection:
            connection.execute(new.on_conflict_do_nothing())
            connection.execute(delete(EndedSessions).where(EndedSessions.until < now))

    def has_password(self, person: int) -> bool:
        """Whether somebody has one to sign in with; who came by a link or a proxy may not."""
        query = select(Identities.password_hash).where(Identities.person_id == person)
        with self.database.read() as connection:
            return connection.scalar(query) is not None

    def set_email(self, person: int, email: str) -> None:
        """Another address to sign in with. Raises RefusedError where it is somebody else's."""
        address = _email(email)
        with self.database.write() as connection:
            _check_free(connection, address, but=person)
            changed = connection.execute(
                update(Identities)
                .where(Identities.person_id == person, Identities.erased_at.is_(None))
                .values(email=address or None)
            ).rowcount
            if not changed:
                raise RefusedError("not_found", "there is no such person.")
            events.append(connection, self.database, None, NewEvent("address", person))

    def set_admin(self, person: int, *, admin: bool, by: int | None = None) -> None:
        """Let somebody run the whole server, or no longer. One admin at least stays."""
        with self.database.write() as connection:
            if get(connection, person).erased:
                raise RefusedError("not_found", "there is no such person.")
            if not admin:
                check_not_last_admin(connection, person)
            connection.execute(update(People).where(People.id == person).values(admin=admin))
            body = {"admin": admin, **actor(connection, by)}
            events.append(connection, self.database, None, NewEvent("admin", person, body=body))

    def log_password_link(self, person: int, *, by: int) -> None:
        """Write down that somebody was given a link to a new password."""
        with self.database.write() as connection:
            body = actor(connection, by)
            new = NewEvent("password link", person, body=body)
            events.append(connection, self.database, None, new)

    def token(self, person: int, name: str, scopes: Sequence[str]) -> str:
        """A new key for a program. It is shown once; only its hash is kept."""
        token = f"bf_{secrets.token_urlsafe(32)}"
        row = {
            "token_hash": _hash(token),
            "person_id": person,
            "name": clean(name, "name of the token", 100) or "token",
            "scopes": list(scopes),
            "created": self.database.now(),
        }
        with self.database.write() as connection:
            connection.execute(insert(Tokens), row)
            body = {"name": row["name"], "scopes": row["scopes"]}
            events.append(connection, self.database, None, NewEvent("token", person, body=body))
        return token

    def by_token(self, token: str) -> tuple[Person, tuple[str, ...]] | None:
        """Whose key this is, and what it opens."""
        now = self.database.now()
        with self.database.read() as connection:
            row = connection.execute(
                select(Tokens).where(Tokens.token_hash == _hash(token))
            ).first()
            if row is None:
                return None
            person = get(connection, row.person_id)
        if row.last_used is None or abs(now - row.last_used) > TOUCH_SECONDS:
            with self.database.write(durable=False) as connection:
                connection.execute(
                    update(Tokens).where(Tokens.token_hash == row.token_hash).values(last_used=now)
                )
        return person, tuple(row.scopes)

    def tokens(self, person: int) -> list[dict[str, Any]]:
        """Names, scopes and last uses of a person's keys; ``key`` is for ``revoke``."""
        query = select(Tokens).where(Tokens.person_id == person).order_by(Tokens.created)
        with self.database.read() as connection:
            return [
                {
                    "key": row.token_hash[:16],
                    "name": row.name,
                    "scopes": row.scopes,
                    "created": row.created,
                    "last_used": row.last_used,
                }
                for row in connection.execute(query)
            ]

    def revoke(self, person: int, key: str) -> None:
        """Take a key of this person's away."""
        with self.database.write() as connection:
            gone = connection.execute(
                delete(Tokens).where(
                    Tokens.person_id == person, func.substr(Tokens.token_hash, 1, 16) == key
                )
            ).rowcount
            if not gone:
                raise RefusedError("not_found", "there is no such token.")
            events.append(connection, self.database, None, NewEvent("token revoked", person))


_PEOPLE = select(
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
    return _one(connection, People.id == person)


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


def _one(connection: Connection, condition: Any) -> Person:
    row = connection.execute(_PEOPLE.where(condition)).first()
    if row is None:
        raise RefusedError("not_found", "there is no such person.")
    return _person(row)


def _person(row: AnyRow) -> Person:
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
    address = _email(email) or None
    _check_free(connection, address or "")
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


def _check_free(connection: Connection, address: str, *, but: int = 0) -> None:
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
    return _HASHER.hash(password)


def _set_hash(
    connection: Connection, person: int, hashed: str, *, new_epoch: bool, epoch: int | None = None
) -> None:
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


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _email(email: str) -> str:
    address = clean(email, "address", 320).strip().lower()
    if address and "@" not in address:
        raise UserError(f"{address!r} is no e-mail address.")
    return address
