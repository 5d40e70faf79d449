"""Keys of programs: random, told once, and kept as hashes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from backflip.feedback.projects.identities import Person, get, hash_of
from backflip.feedback.store import events
from backflip.feedback.store.database import Database
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Tokens
from backflip.feedback.store.wording import clean

TOUCH_SECONDS = 60
"""A token's last use is written down no more often."""


@dataclass(frozen=True)
class ApiTokens:
    """The keys of the people of a database."""

    database: Database

    def token(self, person: int, name: str, scopes: Sequence[str]) -> str:
        """A new key for a program. It is shown once; only its hash is kept."""
        token = f"bf_{secrets.token_urlsafe(32)}"
        row = {
            "token_hash": hash_of(token),
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
                select(Tokens).where(Tokens.token_hash == hash_of(token))
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
