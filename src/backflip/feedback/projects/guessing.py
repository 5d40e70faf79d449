"""Limits on guessing at passwords, which slow the guesser down and nobody else.

Wrong tries are counted for each account as tried from one network: after a few of them each takes
twice as long as the one before. The owner, who comes from elsewhere, waits for none of that. All
tries of a network share a bucket besides, so that a list of accounts cannot be tried one by one;
whoever has signed in from there before needs none of it, so an office keeps working while one of
its machines guesses. The counts stand in the database, for all processes of a server, under keyed
hashes; old ones go, and there are never more than ``MOST``.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, or_, select

from backflip.feedback.store.database import Database, in_turn, insert_into
from backflip.feedback.store.schema import AnyRow, Tries

FREE = 4
"""Wrong tries in a row that cost no time: fingers slip."""
LONGEST = 900.0
"""Seconds between two tries, however many were wrong."""
FORGOTTEN = 86_400.0
"""Seconds after which wrong tries are forgotten."""
FAMILIAR = 90 * 86_400.0
"""Seconds for which a network is remembered as one that somebody signs in from."""
MOST = 100_000
"""Rows that are kept; the oldest go first."""
TIDY = 50
"""One try in so many clears old rows away."""
_LOCK_SPACE = 7_239_107
"""Advisory locks of PostgreSQL: one for each network, more or less (28 bits of its key)."""


def network(address: str) -> str:
    """The unit that tries are counted by: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((int(known), 64), strict=False))
    return str(known)


def delay(wrong: float) -> float:
    """Seconds before the next try, after so many wrong ones in a row."""
    return 0.0 if wrong < FREE else min(2.0 ** min(wrong - FREE, 60), LONGEST)


@dataclass(frozen=True)
class Guessing:
    """Counts tries at passwords, for all processes that share a database."""

    database: Database
    secret: bytes
    per_minute: float
    """Tries of one network at accounts that it is not known for."""
    burst: float = 3.0
    """So many times as many after a rest."""

    def attempt(self, place: str, account: str) -> float:
        """Count a try, or say how many seconds to wait for it.

        It counts as wrong until ``right`` says otherwise: tries at the same time are no way around.
        """

        def work(connection: Connection) -> float:
            now = self.database.now()
            mine, whole = self._rows(connection, place, account)
            wrong = mine.level if mine and now - mine.at < FORGOTTEN else 0.0
            known = _familiar(mine, now)
            level = self._level(whole, now)
            pause = min(mine.at + delay(wrong) - now, delay(wrong)) if mine else 0.0
            full = 0.0 if known else (level + 1 - self.per_minute * self.burst) * self._second
            if max(pause, full) > 0:
                return max(pause, full)
            right = mine.right if mine else None
            self._keep(connection, self._key(place, account), wrong + 1, now, right)
            if not known:
                self._keep(connection, self._key(place, ""), level + 1, now, None)
            if secrets.randbelow(TIDY) == 0:
                self._tidy(connection)
            return 0.0

        return self.database.transact(work, durable=False)

    def right(self, place: str, account: str) -> None:
        """The try that was counted was no guess."""

        def work(connection: Connection) -> None:
            now = self.database.now()
            mine, whole = self._rows(connection, place, account)
            if whole and not _familiar(mine, now):
                level = max(0.0, self._level(whole, now) - 1)
                self._keep(connection, self._key(place, ""), level, now, None)
            self._keep(connection, self._key(place, account), 0.0, now, now)

        self.database.transact(work, durable=False)

    @property
    def _second(self) -> float:
        """Seconds for one try of a network."""
        return 60.0 / self.per_minute

    def _level(self, row: AnyRow | None, now: float) -> float:
        """How full a network's bucket is: it empties with time."""
        return max(0.0, row.level - max(0.0, now - row.at) / self._second) if row else 0.0

    def _key(self, place: str, account: str) -> str:
        said = f"{place}\0{account.strip().lower()[:320]}".encode("utf-8", "surrogatepass")
        return hmac.new(self.secret, said, hashlib.sha256).hexdigest()

    def _rows(
        self, connection: Connection, place: str, account: str
    ) -> tuple[AnyRow | None, AnyRow | None]:
        """Counts of an account as tried from a network, and of the network.

        Tries of a network take turns until the transaction ends: a first one leaves no row that the
        next at the same moment could be kept waiting by.
        """
        keys = (self._key(place, account), self._key(place, ""))
        in_turn(connection, self.database, _LOCK_SPACE, int(keys[1][:7], 16))
        query = select(Tries).where(Tries.key.in_(keys))
        found = {row.key: row for row in connection.execute(query)}
        return found.get(keys[0]), found.get(keys[1])

    def _keep(
        self, connection: Connection, key: str, level: float, at: float, right: float | None
    ) -> None:
        row = {"level": level, "at": at, "right": right}
        new = insert_into(Tries, self.database.embedded).values(key=key, **row)
        connection.execute(new.on_conflict_do_update(index_elements=["key"], set_=row))

    def _tidy(self, connection: Connection) -> None:
        """Clear away what is forgotten, and the oldest of what is too much."""
        now = self.database.now()
        stale = or_(Tries.right.is_(None), Tries.right < now - FAMILIAR)
        connection.execute(delete(Tries).where(Tries.at < now - FORGOTTEN, stale))
        more = (connection.scalar(select(func.count()).select_from(Tries)) or 0) - MOST
        if more > 0:
            oldest = select(Tries.key).order_by(Tries.at).limit(more)
            connection.execute(delete(Tries).where(Tries.key.in_(oldest.scalar_subquery())))


def _familiar(row: AnyRow | None, now: float) -> bool:
    """Whether the account was signed in to from that network before."""
    return row is not None and row.right is not None and now - row.right < FAMILIAR
