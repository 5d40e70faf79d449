"""The first waiting item that a rater has not had: a walk along one index (``items_waiting``).

The walk passes over what the rater has answered and others have not yet, so a million items take
no longer than a thousand. Who is far ahead of all others would pass over more and more: such a
rater looks at the head of the queue, where items come back and new ones of high priority go, and
then goes on from where the last walk ended. Items that came back in between wait for the others, or
for this rater's next walk from the head.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, literal, or_, select, tuple_

from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.queues import ADJUDICATE
from backflip.feedback.store.schema import AnyRow, AnySelect, Items, Leases

HEAD = 1000
"""Items at the head of a queue that are always looked at; a walk over so many takes about 2 ms."""
CANDIDATES = 50
"""Items with a known answer among which chance chooses."""


class Place(NamedTuple):
    """A place in a queue, which runs from high to low."""

    priority: float
    spot: int


_WAITING = (
    select(Items.id, Items.payload, Items.warning, Items.priority, Items.spot)
    .where(Items.project_id == bindparam("project"), Items.queue == bindparam("queue"))
    .limit(bindparam("most"))
)
_BEST_FIRST = (Items.priority.desc(), Items.spot.desc())


def _unseen() -> AnySelect:
    """Items waiting in one queue for one kind of rater that this one has not had, best first."""
    had = (
        select(literal(1))
        .where(
            Leases.person_id == bindparam("person"),
            Leases.item_id == Items.id,
            Leases.state != "expired",
        )
        .exists()
    )
    return _WAITING.where(Items.route == bindparam("route"), ~had).order_by(*_BEST_FIRST)


_PLACE = tuple_(Items.priority, Items.spot)
_BOUND = tuple_(bindparam("priority"), bindparam("spot"))
_FEW = _unseen()
_FREE = _FEW.with_for_update(skip_locked=True, of=Items)
_FREE_AT_THE_HEAD = _FREE.where(_PLACE >= _BOUND)
_FREE_BEYOND = _FREE.where(_PLACE <= _BOUND)
_END_OF_THE_HEAD = (
    select(Items.priority, Items.spot)
    .where(
        Items.project_id == bindparam("project"),
        Items.queue == bindparam("queue"),
        Items.route == bindparam("route"),
    )
    .order_by(Items.priority.desc(), Items.spot.desc())
    .offset(bindparam("head"))
    .limit(1)
)


def _disputed() -> AnySelect:
    """Items for adjudicators, whomever they were meant for; what somebody judged, for them last."""
    mine = (Leases.person_id == bindparam("person"), Leases.item_id == Items.id)
    now = or_(Leases.stage == ADJUDICATE, Leases.state == "live")
    settled = select(literal(1)).where(*mine, Leases.state != "expired", now).exists()
    judged = select(literal(1)).where(*mine, Leases.state == "answered").exists()
    return _WAITING.where(~settled).order_by(judged, *_BEST_FIRST)


_DISPUTED = _disputed().with_for_update(skip_locked=True, of=Items)


def routes(member: Member) -> list[str]:
    """Routes that are open to a rater: that of everybody, and those of their groups."""
    return ["", *(f"{group}={value}" for group, value in sorted(member.groups.items()))]


def best(
    connection: Connection, ref: ProjectRef, member: Member, queue: str, shown: int
) -> AnyRow | None:
    """The best waiting item, locked; among equals one that not everybody may see.

    ``shown``: how many the rater has had; only who has had many can be far ahead.
    """
    found: AnyRow | None = None
    if queue == ADJUDICATE:
        given = {"person": member.person, "project": ref.id, "queue": queue, "most": 1}
        return connection.execute(_DISPUTED, given).first()
    for route in routes(member):
        given = {
            "person": member.person,
            "project": ref.id,
            "queue": queue,
            "route": route,
            "most": 1,
        }
        row = _walk(connection, ref, member, given, far=shown >= HEAD)
        if row and (found is None or row.priority >= found.priority):
            found = row
    return found


def _walk(
    connection: Connection, ref: ProjectRef, member: Member, given: dict[str, Any], *, far: bool
) -> AnyRow | None:
    """From the head, or for who is far ahead: along the head, then from where they were."""
    if not far:
        return connection.execute(_FREE, given).first()
    cache, row = ref.database.cache, None
    key = ("ahead", ref.id, member.person, given["queue"], given["route"])
    version, ahead = cache.get(key, (None, None))
    if ahead is not None and version == member.arrivals:
        end = connection.execute(_END_OF_THE_HEAD, given | {"head": HEAD}).first()
        if end is not None and ahead < tuple(end):
            row = connection.execute(_FREE_AT_THE_HEAD, given | end._asdict()).first()
            if row is not None:
                return row
            row = connection.execute(_FREE_BEYOND, given | ahead._asdict()).first()
    row = row or connection.execute(_FREE, given).first()
    if row is not None:
        cache[key] = (member.arrivals, Place(row.priority, row.spot))
    return row


def first_few(connection: Connection, ref: ProjectRef, member: Member, queue: str) -> list[AnyRow]:
    """The first few waiting items of a queue that this rater has not had."""
    rows = list[AnyRow]()
    for route in routes(member):
        given = {
            "person": member.person,
            "project": ref.id,
            "queue": queue,
            "route": route,
            "most": CANDIDATES,
        }
        rows.extend(connection.execute(_FEW, given))
    return rows
