"""What an account page asks of an identity beside what the roster offers."""

from __future__ import annotations

from sqlalchemy import select, update

from backflip.data.errors import UserError
from backflip.feedback.refusals import RefusedError
from backflip.feedback.schema import Identities
from backflip.feedback.store import Store


def has_password(store: Store, person: int) -> bool:
    """Whether somebody has one to sign in with; who came by a link may not."""
    query = select(Identities.password_hash).where(Identities.person_id == person)
    with store.database.read() as connection:
        return connection.scalar(query) is not None


def set_email(store: Store, person: int, email: str) -> None:
    """An address to sign in with, for somebody who has none."""
    address = email.strip().lower()
    if "@" not in address or len(address) > 320:
        raise UserError(f"{address[:60]!r} is no e-mail address.")
    if store.people.by_email(address) is not None:
        raise RefusedError("conflict", "somebody with this address is here already.")
    with store.database.write() as connection:
        connection.execute(
            update(Identities)
            .where(Identities.person_id == person, Identities.email.is_(None))
            .values(email=address)
        )
