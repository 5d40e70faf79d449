"""Leases: an item that is shown to somebody waits for them, for a while.

A lease's row outlives it: an answer that comes too late is still known to be in the right hands,
and in which order its item was displayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, case, or_, select, update

from backflip.feedback.kinds.fields import Payload
from backflip.feedback.store.database import insert_into
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.queues import ADJUDICATE, EVERYBODY, FULL, waits
from backflip.feedback.store.schema import AnyRow, Items, Leases
from backflip.feedback.tasks.display import Order, as_displayed, order_of, own_order, seed_of
from backflip.feedback.tasks.items import payload_of

SWEPT = 200
"""Expired leases that one request ends at most."""


@dataclass(frozen=True)
class Pick:
    """An item chosen for a rater, and why."""

    item: int
    payload: dict[str, Any]
    stage: str
    """screening, calibration, work, adjudicate or golden."""
    counted: bool
    """Whether it takes one of the places that the item wants filled."""
    repeat_of: int | None = None
    warning: str = ""


@dataclass(frozen=True)
class Held:
    """A lease as it stands, with its item."""

    item: int
    payload: Payload
    order: Order
    stage: str
    expires: float
    repeat_of: int | None
    wanted: bool = True
    """Whether the item still wants this rater's answer: it may have been dropped or filled."""
    warning: str = ""
    """A content warning of the item's own."""


def held(connection: Connection, ref: ProjectRef, person: int, kind: str) -> list[Held]:
    """A rater's live leases, the oldest first."""
    rows = connection.execute(_HELD, {"person": person, "project": ref.id})
    return [
        Held(
            row.item_id,
            payload_of(row.payload, kind),
            tuple(row.order),
            row.stage,
            row.expires,
            row.repeat_of,
            _wanted(row),
            row.warning,
        )
        for row in rows
    ]


def _wanted(row: AnyRow) -> bool:
    if row.stage == ADJUDICATE:
        return row.state == ADJUDICATE
    if row.repeat_of is not None:
        return row.state != "dropped"
    return row.state == "open" and (row.purpose in EVERYBODY or row.given < row.wanted)


_HELD = (
    select(
        Leases.item_id,
        Leases.order,
        Leases.stage,
        Leases.expires,
        Leases.repeat_of,
        Items.payload,
        Items.warning,
        Items.purpose,
        Items.state,
        Items.given,
        Items.wanted,
    )
    .join(Items, Items.id == Leases.item_id)
    .where(
        Leases.person_id == bindparam("person"),
        Leases.project_id == bindparam("project"),
        Leases.state == "live",
    )
    .order_by(Leases.shown, Leases.item_id)
)


def take(connection: Connection, ref: ProjectRef, member: Member, pick: Pick, now: float) -> Held:
    """Lease an item. The order is the same whenever the same rater sees it for the same reason.

    Whoever settles a dispute sees the item's own order, in which the votes are listed: A is A.
    """
    settings, person = member.settings, member.person
    payload = payload_of(pick.payload, settings.kind)
    seed = seed_of(member.salt, person, pick.item, pick.repeat_of or "first")
    order = own_order(payload) if pick.stage == ADJUDICATE else order_of(payload, seed)
    expires = now + settings.lease_seconds
    row = {
        "person_id": person,
        "item_id": pick.item,
        "project_id": ref.id,
        "order": list(order),
        "seed": seed,
        "stage": pick.stage,
        "state": "live",
        "shown": now,
        "expires": expires,
        "repeat_of": pick.repeat_of,
    }
    connection.execute(_lease(ref.database.embedded), row)
    if pick.counted:
        connection.execute(_PLACE, {"number": pick.item})
    return Held(
        pick.item,
        payload,
        order,
        pick.stage,
        expires,
        pick.repeat_of,
        warning=pick.warning,
    )


@cache
def _lease(embedded: bool) -> Any:
    new = insert_into(Leases, embedded)
    columns = ("project_id", "order", "seed", "stage", "state", "shown", "expires", "repeat_of")
    changed = {name: new.excluded[name] for name in columns}
    return new.on_conflict_do_update(index_elements=["person_id", "item_id"], set_=changed)


_PLACE = (
    update(Items)
    .where(Items.id == bindparam("number"))
    .values(
        taken=Items.taken + 1,
        queue=case((Items.taken + 1 >= Items.wanted, FULL), else_=Items.queue),
    )
)


def renew(connection: Connection, person: int, items: list[int], expires: float) -> None:
    """Let leases begin anew: the rater has asked for these items again."""
    connection.execute(
        update(Leases)
        .where(Leases.person_id == person, Leases.item_id.in_(items), Leases.state == "live")
        .values(expires=expires)
    )


def counted(purpose: str, stage: str, repeat_of: int | None) -> bool:
    """Whether a lease takes one of the places of its item."""
    return repeat_of is None and stage in ("work", "golden") and purpose not in EVERYBODY


def sweep(connection: Connection, ref: ProjectRef, now: float, lease_seconds: int) -> int:
    """End leases that have expired, and those from the future: the clock has been set back."""
    far = now + 2 * lease_seconds + 60
    rows = connection.execute(_OVER, {"project": ref.id, "now": now, "far": far}).all()
    for row in rows:
        state = "expired" if row.repeat_of is None else "answered"
        connection.execute(
            update(Leases)
            .where(Leases.person_id == row.person_id, Leases.item_id == row.item_id)
            .values(state=state)
        )
        free(connection, row)
    return len(rows)


_OVER = (
    select(Leases.person_id, Leases.item_id, Leases.repeat_of, Leases.stage)
    .where(
        Leases.project_id == bindparam("project"),
        Leases.state == "live",
        or_(Leases.expires < bindparam("now"), Leases.expires > bindparam("far")),
    )
    .order_by(Leases.item_id)
    .limit(SWEPT)
    .with_for_update(skip_locked=True)
)


def free(connection: Connection, lease: AnyRow) -> None:
    """Give back the place that a lease took, so that the item waits for others again."""
    item = connection.execute(
        select(
            Items.id,
            Items.purpose,
            Items.origin,
            Items.state,
            Items.taken,
            Items.wanted,
        )
        .where(Items.id == lease.item_id)
        .with_for_update()
    ).one()
    if not counted(item.purpose, lease.stage, lease.repeat_of):
        return
    taken = max(0, item.taken - 1)
    queue = waits(
        purpose=item.purpose,
        origin=item.origin,
        state=item.state,
        taken=taken,
        wanted=item.wanted,
    )
    connection.execute(update(Items).where(Items.id == item.id).values(taken=taken, queue=queue))


def displayed(lease: Held) -> dict[str, Any]:
    """The item as its rater sees it."""
    return as_displayed(lease.payload, lease.order)
