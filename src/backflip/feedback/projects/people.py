"""People: pseudonyms in the log, names in a table of their own that can be emptied.

Invitations and keys of programs are random and stored as hashes, passwords as argon2 hashes, so
that a stolen database opens no door.
"""

from __future__ import annotations

from dataclasses import dataclass

from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select, update

from backflip.feedback.projects.api_tokens import ApiTokens
from backflip.feedback.projects.identities import (
    HASHER,
    LONGEST,
    NOBODY,
    PEOPLE,
    Person,
    actor,
    add,
    address_of,
    check_free,
    check_not_last_admin,
    get,
    hash_of,
    hash_password,
    one,
    person_of,
    set_hash,
)
from backflip.feedback.store import events
from backflip.feedback.store.database import insert_into
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import EndedSessions, Identities, People, Tokens

KEPT_ENDED = 400 * 86_400.0
"""Seconds for which an ended session is remembered: longer than any cookie is good."""


@dataclass(frozen=True)
class Roster(ApiTokens):
    """The people of a database."""

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
            return one(connection, People.pseudonym == pseudonym)

    def by_email(self, email: str) -> Person | None:
        """For single sign-on, whose proxy has checked who it is."""
        with self.database.read() as connection:
            row = connection.execute(PEOPLE.where(Identities.email == address_of(email))).first()
        return person_of(row) if row else None

    def count(self) -> int:
        """How many there are: 0 means that the first to come is the admin."""
        with self.database.read() as connection:
            return connection.scalar(select(func.count()).select_from(People)) or 0

    def everybody(self) -> list[Person]:
        """All who are not erased, in the order in which they came."""
        query = PEOPLE.where(Identities.erased_at.is_(None)).order_by(People.id)
        with self.database.read() as connection:
            return [person_of(row) for row in connection.execute(query)]

    def sign_in(self, email: str, password: str) -> Person | None:
        """Who this is; none where address and password do not belong together."""
        with self.database.read() as connection:
            row = connection.execute(PEOPLE.where(Identities.email == address_of(email))).first()
        kept = row.password_hash if row and row.password_hash else NOBODY
        try:
            HASHER.verify(kept, password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return None
        if row is None or kept is NOBODY:
            return None
        if HASHER.check_needs_rehash(kept):
            with self.database.write() as connection:
                set_hash(connection, row.id, hash_password(password), new_epoch=False)
        return person_of(row)

    def set_password(self, person: int, password: str, *, epoch: int | None = None) -> None:
        """A new password; every older session is over, and every token is withdrawn.

        ``epoch``: refuse where it is another by now, so that a link sets a password once.
        """
        hashed = hash_password(password)
        with self.database.write() as connection:
            set_hash(connection, person, hashed, new_epoch=True, epoch=epoch)
            gone = connection.execute(delete(Tokens).where(Tokens.person_id == person)).rowcount
            new = NewEvent("password", person, body={"tokens withdrawn": gone})
            events.append(connection, self.database, None, new)

    def signed_in(self, person: int, epoch: int, nonce: str) -> Person | None:
        """Whose session this is; none where a new password, an erasure or signing out ended it."""
        ended = select(EndedSessions.nonce_hash).where(EndedSessions.nonce_hash == hash_of(nonce))
        alive = (People.id == person, Identities.epoch == epoch, Identities.erased_at.is_(None))
        with self.database.read() as connection:
            row = connection.execute(PEOPLE.where(*alive, ~ended.exists())).first()
        return person_of(row) if row else None

    def end_session(self, nonce: str) -> None:
        """Nobody is signed in by this session any more, whoever has a copy of its cookie."""
        now = self.database.now()
        row = {"nonce_hash": hash_of(nonce), "until": now + KEPT_ENDED}
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
        address = address_of(email)
        with self.database.write() as connection:
            check_free(connection, address, but=person)
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
