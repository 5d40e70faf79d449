"""An answer is one transaction: the event, the answer, the counts, the item's state, the lease.

Sent twice with the same client key it is stored once, and the same acknowledgement comes back.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, insert, select, update

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.rating import allocation, resolution
from backflip.feedback.rating.allocation import admitted
from backflip.feedback.rating.leases import counted
from backflip.feedback.rating.receipts import Judged, Receipt, receipt_of, repeated
from backflip.feedback.rating.resolution import Standing
from backflip.feedback.store import events, tallies
from backflip.feedback.store.events import NewEvent, own_key
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.queues import ADJUDICATE, EVERYBODY, WORK
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Answers, AnyRow, Items, Leases
from backflip.feedback.tasks.display import in_item_order
from backflip.feedback.tasks.items import payload_of, value_of
from backflip.feedback.tasks.settings import ProjectSettings

T = TypeVar("T")
LONGEST = 86_400.0
"""Seconds beyond which a measured time is no time of work."""


@dataclass(frozen=True)
class Given:
    """An answer as the page sends it."""

    item: int
    value: Mapping[str, Any]
    """As displayed."""
    seconds: float | int | None
    client_key: str | None
    at: float | None = None
    """When it was given (Unix seconds), where that was elsewhere and before."""


def answer(
    ref: ProjectRef, person: int, given: Given, *, hold: Sequence[int] = (), queue: str = WORK
) -> Receipt:
    """Store an answer and choose the rater's next item.

    The item comes in a transaction of its own, that cannot take the answer down with it.
    """
    receipt = stored(ref, person, given)
    try:
        held = frozenset(hold) - {given.item}
        shown = allocation.next_items(ref, person, count=1, queue=queue, hold=tuple(held))
    except RefusedError:
        shown = []
    return replace(receipt, next=shown[0] if shown else None)


def stored(ref: ProjectRef, person: int, given: Given) -> Receipt:
    """Store an answer; nothing is asked next."""
    return watched(ref, person, given.item, lambda c: _store(c, ref, person, given))


def watched(ref: ProjectRef, person: int, item: int, work: Callable[[Connection], T]) -> T:
    """``Database.transact``, for work on an item that must lie before this person."""
    try:
        return ref.database.transact(work)
    except RefusedError as error:
        if error.code == "not_yours":
            log_refusal(ref, person, item)
        raise


def log_refusal(ref: ProjectRef, person: int, item: int) -> None:
    """A forged number or another rater's item leaves a trace."""
    with ref.database.write(durable=False) as connection:
        body = {"asked_for": str(item)[:40]}
        events.append(connection, ref.database, ref.id, NewEvent("refused", person, body=body))


def locked(connection: Connection, ref: ProjectRef, person: int, item: int) -> AnyRow:
    """A rater's lease with its item, held until the transaction ends. Refuses all others."""
    given = {"person": person, "project": ref.id, "item": item}
    row = connection.execute(_LOCKED, given).first() if -(2**63) <= item < 2**63 else None
    if row is None:
        raise RefusedError(
            "not_yours", "this item was not given to you; ask for the next one and answer that."
        )
    return row


_LOCKED = (
    select(
        Items.id,
        Items.payload,
        Items.gold,
        Items.why,
        Items.purpose,
        Items.origin,
        Items.state,
        Items.wanted,
        Items.given,
        Items.taken,
        Items.skipped,
        Items.flags,
        Leases.order.label("order"),
        Leases.seed,
        Leases.stage,
        Leases.state.label("lease"),
        Leases.repeat_of,
    )
    .join(Items, Items.id == Leases.item_id)
    .where(
        Leases.person_id == bindparam("person"),
        Leases.item_id == bindparam("item"),
        Leases.project_id == bindparam("project"),
    )
    .with_for_update()
)


def _store(connection: Connection, ref: ProjectRef, person: int, given: Given) -> Receipt:
    member = admitted(connection, ref, person)
    row = locked(connection, ref, person, given.item)
    key = own_key(person, given.client_key)
    before = events.by_key(connection, key)
    if before is not None:
        return repeated(member, row, before)
    judged = _judge(connection, member, row, given)
    if judged is None:
        return _second(connection, ref, member, row, given)
    new = NewEvent("answer", person, row.id, _body(judged, row), key, member.version)
    number = events.append(connection, ref.database, ref.id, new)
    connection.execute(_INSERT, _row(ref, member, row, judged, number))
    connection.execute(_DONE_WITH, {"person": person, "item": row.id})
    changes = _changes(ref, member, row, judged)
    _settle(connection, member.settings, row, judged, changes)
    tallies.add(connection, ref.id, changes)
    return receipt_of(connection, ref, member, row, judged, number)


_INSERT = insert(Answers)
_DONE_WITH = (
    update(Leases)
    .where(Leases.person_id == bindparam("person"), Leases.item_id == bindparam("item"))
    .values(state="answered")
)


def _judge(connection: Connection, member: Member, row: AnyRow, given: Given) -> Judged | None:
    """Check an answer against its item. None: this rater has answered it already."""
    settings, kind = member.settings, member.settings.kind
    repeat_of = row.repeat_of
    if row.lease == "answered":
        done = repeat_of is None or connection.scalar(
            select(Answers.id).where(
                Answers.item_id == row.id,
                Answers.person_id == member.person,
                Answers.repeat_of == repeat_of,
                Answers.undone.is_(None),
            )
        )
        if done:
            return None
    payload = payload_of(row.payload, kind)
    turned = in_item_order(kind, given.value, row.order)
    value = value_of(turned, payload, settings).model_dump(mode="json")
    correct = None
    if row.gold is not None and row.purpose in EVERYBODY:
        correct = kind_of(kind).same_as(row.gold, value)
    return Judged(
        value=value,
        seconds=_sane(given.seconds),
        correct=correct,
        repeat_of=repeat_of,
        surplus=repeat_of is None and not _wants(row),
        late=row.lease != "live" and given.at is None,
        at=given.at,
    )


def _sane(seconds: float | int | None) -> float | None:
    """A time of work, or none: browsers sleep, and clocks jump."""
    if seconds is None or not math.isfinite(seconds) or not 0 <= seconds <= LONGEST:
        return None
    return float(seconds)


def _wants(row: AnyRow) -> bool:
    """Whether the item still wants this answer."""
    if row.purpose in EVERYBODY:
        return row.state == "open"
    if row.stage == ADJUDICATE:
        return row.state == ADJUDICATE
    return row.state == "open" and row.given < row.wanted


def _body(judged: Judged, row: AnyRow) -> dict[str, Any]:
    body: dict[str, Any] = {
        "value": judged.value,
        "order": row.order,
        "seed": row.seed,
        "seconds": judged.seconds,
        "stage": row.stage,
    }
    extra = {
        "correct": judged.correct,
        "repeat_of": judged.repeat_of,
        "surplus": judged.surplus or None,
        "late": judged.late or None,
        "at": judged.at,
    }
    return body | {name: value for name, value in extra.items() if value is not None}


def _row(
    ref: ProjectRef, member: Member, row: AnyRow, judged: Judged, number: int
) -> dict[str, Any]:
    return {
        "id": number,
        "project_id": ref.id,
        "item_id": row.id,
        "person_id": member.person,
        "value": judged.value,
        "order": row.order,
        "score": kind_of(member.settings.kind).score(judged.value, member.settings),
        "seconds": judged.seconds,
        "at": ref.database.now() if judged.at is None else judged.at,
        "rubric_version": member.version,
        "stage": row.stage,
        "surplus": judged.surplus,
        "correct": judged.correct,
        "repeat_of": judged.repeat_of,
        "undone": None,
    }


def _changes(ref: ProjectRef, member: Member, row: AnyRow, judged: Judged) -> tallies.Changes:
    """Changes of the counts by an answer. The quiz is no work and counts apart."""
    if row.stage == "screening":
        return Counter({(tallies.PROJECT, "quiz"): 1, (member.person, "quiz"): 1})
    gold = judged.correct if row.purpose == "gold" else None
    changes = tallies.of_answer(
        member.person,
        seconds=min(judged.seconds or 0.0, float(member.settings.lease_seconds)),
        at=ref.database.now() if judged.at is None else judged.at,
        word=kind_of(member.settings.kind).word(judged.value),
        correct=gold,
    )
    for name, true in (
        ("surplus", judged.surplus),
        ("repeats", judged.repeat_of is not None),
        ("calibration", row.stage == "calibration"),
    ):
        changes[tallies.PROJECT, name] += int(true)
    return changes


def _settle(
    connection: Connection,
    settings: ProjectSettings,
    row: AnyRow,
    judged: Judged,
    changes: tallies.Changes,
) -> None:
    """Move the item on: one answer more, a place less, perhaps done."""
    if judged.repeat_of is not None:
        return
    placed = counted(row.purpose, row.stage, None)
    taken = row.taken - (placed and row.lease == "live")
    if judged.surplus:
        standing = Standing(row.state, row.wanted, row.given, max(0, taken))
    elif row.stage == ADJUDICATE:
        standing = Standing("done", row.wanted, row.given, taken)
    else:
        given = row.given + 1
        state, wanted = "open", row.wanted
        if row.purpose not in EVERYBODY:
            votes = list[resolution.Vote]()
            if given >= wanted and (settings.overlap or settings.adjudicate_below):
                votes = resolution.votes_of(connection, row.id)
            state, wanted = resolution.decide(settings, votes, given, wanted)
        standing = Standing(state, wanted, given, max(0, taken) + 1)
    resolution.write(connection, row, standing, changes)


def _second(
    connection: Connection, ref: ProjectRef, member: Member, row: AnyRow, given: Given
) -> Receipt:
    """A second answer to the same showing, from another tab: the first counts, both are kept."""
    kind = member.settings.kind
    turned = in_item_order(kind, given.value, row.order)
    value = value_of(turned, payload_of(row.payload, kind), member.settings)
    first = connection.scalars(
        select(Answers.id)
        .where(Answers.item_id == row.id, Answers.person_id == member.person)
        .order_by(Answers.id.desc())
        .limit(1)
    ).one()
    body = {"value": value.model_dump(mode="json"), "first": first, "surplus": True}
    key = own_key(member.person, given.client_key)
    new = NewEvent("second answer", member.person, row.id, body, key, member.version)
    events.append(connection, ref.database, ref.id, new)
    return Receipt(first, again=True, surplus=True)
