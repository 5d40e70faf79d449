"""Actions of a rater beside answering: skip, flag, note, and take back the newest answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqlalchemy import Connection, select, update

from backflip.errors import UserError
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.rating import allocation, resolution
from backflip.feedback.rating import leases as leasing
from backflip.feedback.rating.allocation import Assignment, admitted
from backflip.feedback.rating.answering import locked, watched
from backflip.feedback.rating.leases import counted
from backflip.feedback.rating.resolution import Standing
from backflip.feedback.store import events, tallies
from backflip.feedback.store.events import NewEvent, own_key
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.queues import ADJUDICATE
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Answers, AnyRow, Items, Leases, Memberships
from backflip.feedback.tasks.display import seed_of

NOTE_LIMIT = 20_000
"""Characters of a reason or a note."""


def skip(
    ref: ProjectRef, person: int, item: int, *, reason: str = "", client_key: str | None = None
) -> int:
    """Give an item back without an answer; it costs nothing and does not come again."""

    def work(connection: Connection) -> int:
        member = admitted(connection, ref, person)
        row = locked(connection, ref, person, item)
        key = own_key(person, client_key)
        if before := events.by_key(connection, key):
            return before.id
        if row.lease == "answered" and row.repeat_of is None:
            raise RefusedError("conflict", "this item is answered; undo the answer instead.")
        if row.stage == "screening":
            raise RefusedError("conflict", "questions of the quiz cannot be skipped.")
        body = {"reason": _short(reason), "stage": row.stage}
        new = NewEvent("skip", person, item, body, key, member.version)
        number = events.append(connection, ref.database, ref.id, new)
        state = "skipped" if row.repeat_of is None else "answered"
        connection.execute(
            update(Leases)
            .where(Leases.person_id == person, Leases.item_id == item)
            .values(state=state)
        )
        if row.lease != "skipped":
            _after_skip(connection, ref, member, row)
        return number

    return watched(ref, person, item, work)


def _after_skip(connection: Connection, ref: ProjectRef, member: Member, row: AnyRow) -> None:
    """Count a skip and free the item's place; after too many it goes to the adjudicators."""
    changes: tallies.Changes = Counter()
    for who in (tallies.PROJECT, member.person):
        changes[who, "skips"] += 1
    limit, skipped = member.settings.skips_to_adjudicate, row.skipped + 1
    placed = row.lease == "live" and counted(row.purpose, row.stage, row.repeat_of)
    state = row.state
    if limit and skipped >= limit and state == "open" and row.purpose == "work":
        state = ADJUDICATE
    connection.execute(update(Items).where(Items.id == row.id).values(skipped=skipped))
    standing = Standing(state, row.wanted, row.given, max(0, row.taken - placed))
    resolution.write(connection, row, standing, changes)
    tallies.add(connection, ref.id, changes)


def flag(
    ref: ProjectRef, person: int, item: int, *, reason: str = "", client_key: str | None = None
) -> int:
    """Tell the lead that something is wrong with an item. It stays with the rater."""
    body = {"reason": _short(reason)}
    return _remark(ref, person, item, "flag", body, client_key)


def note(
    ref: ProjectRef, person: int, item: int, *, words: str, client_key: str | None = None
) -> int:
    """Keep a remark beside an item."""
    if not words.strip():
        raise UserError("the note is empty; write something, or leave it.")
    return _remark(ref, person, item, "note", {"text": _short(words)}, client_key)


def _remark(
    ref: ProjectRef, person: int, item: int, kind: str, body: dict[str, Any], client_key: str | None
) -> int:
    def work(connection: Connection) -> int:
        member = admitted(connection, ref, person)
        locked(connection, ref, person, item)
        key = own_key(person, client_key)
        if before := events.by_key(connection, key):
            return before.id
        new = NewEvent(kind, person, item, body, key, member.version)
        number = events.append(connection, ref.database, ref.id, new)
        if kind == "flag":
            connection.execute(update(Items).where(Items.id == item).values(flags=Items.flags + 1))
            changes: tallies.Changes = Counter(
                {(tallies.PROJECT, "flags"): 1, (person, "flags"): 1}
            )
            tallies.add(connection, ref.id, changes)
        return number

    return watched(ref, person, item, work)


def _short(words: str) -> str:
    if len(words) > NOTE_LIMIT:
        raise UserError(f"{len(words)} characters are too many here; {NOTE_LIMIT} is the limit.")
    return words


def undo(ref: ProjectRef, person: int, *, client_key: str | None = None) -> Assignment:
    """Take back the rater's newest answer and show its item again, in the same order."""

    def work(connection: Connection) -> Assignment:
        member = admitted(connection, ref, person)
        key = own_key(person, client_key)
        if before := events.by_key(connection, key):
            return _shown_again(connection, ref, member, before.item_id)
        newest = _newest(connection, ref, person)
        if newest is None:
            raise RefusedError("nothing", "there is no answer of yours to take back.")
        row = locked(connection, ref, person, newest.item_id)
        _check_undo(connection, member, newest)
        new = NewEvent("undo", person, row.id, {"answer": newest.id}, key, member.version)
        take_back(connection, ref, newest, row, new, leased=True)
        _lease_again(connection, ref, member, newest)
        if newest.correct is not None and row.purpose == "gold" and member.recent:
            _forget_gold(connection, ref, member)
        return _shown_again(connection, ref, member, row.id)

    return ref.database.transact(work)


def _newest(connection: Connection, ref: ProjectRef, person: int) -> AnyRow | None:
    """The newest answer of a rater that was not taken back."""
    return connection.execute(
        select(Answers)
        .where(
            Answers.person_id == person,
            Answers.project_id == ref.id,
            Answers.undone.is_(None),
        )
        .order_by(Answers.id.desc())
        .limit(1)
    ).first()


def undoable(connection: Connection, ref: ProjectRef, member: Member) -> int | None:
    """The number of the answer that ``undo`` would take back; none: it would refuse."""
    newest = _newest(connection, ref, member.person)
    try:
        if newest is not None:
            _check_undo(connection, member, newest)
    except RefusedError:
        return None
    return None if newest is None else newest.id


def _check_undo(connection: Connection, member: Member, newest: AnyRow) -> None:
    if member.state == "paused":
        raise RefusedError("paused", "you are paused; talk to the lead of the project.")
    if newest.stage in ("screening", "calibration"):
        raise RefusedError("conflict", "an answer that has had its feedback cannot be taken back.")
    final = connection.scalar(
        select(Answers.id).where(
            Answers.item_id == newest.item_id,
            Answers.stage == ADJUDICATE,
            Answers.undone.is_(None),
        )
    )
    if final and newest.stage != ADJUDICATE:
        raise RefusedError("conflict", "an adjudicator has decided on that item since.")


def _lease_again(connection: Connection, ref: ProjectRef, member: Member, newest: AnyRow) -> None:
    """Let the item lie before its rater as it did."""
    now = ref.database.now()
    connection.execute(
        update(Leases)
        .where(Leases.person_id == member.person, Leases.item_id == newest.item_id)
        .values(
            state="live",
            order=newest.order,
            seed=seed_of(member.salt, member.person, newest.item_id, newest.repeat_of or "first"),
            stage=newest.stage,
            shown=now,
            expires=now + member.settings.lease_seconds,
            repeat_of=newest.repeat_of,
        )
    )


def _forget_gold(connection: Connection, ref: ProjectRef, member: Member) -> None:
    """Take the newest mark out of the rolling accuracy."""
    connection.execute(
        update(Memberships)
        .where(Memberships.person_id == member.person, Memberships.project_id == ref.id)
        .values(recent=list(member.recent[:-1]))
    )


def take_back(
    connection: Connection,
    ref: ProjectRef,
    answer: AnyRow,
    item: AnyRow,
    event: NewEvent,
    *,
    leased: bool,
) -> None:
    """Write down that an answer was taken back, and take it out of the counts and of its item.

    ``leased``: whether its rater gets the item back, and with it a place.
    """
    number = events.append(connection, ref.database, ref.id, event)
    connection.execute(update(Answers).where(Answers.id == answer.id).values(undone=number))
    settings = ref.settings(connection)
    changes = tallies.of_answer(
        answer.person_id,
        seconds=min(answer.seconds or 0.0, float(settings.lease_seconds)),
        at=answer.at,
        word=kind_of(settings.kind).word(answer.value),
        correct=answer.correct if item.purpose == "gold" else None,
        sign=-1,
    )
    changes[tallies.PROJECT, "surplus"] -= int(answer.surplus)
    changes[tallies.PROJECT, "repeats"] -= int(answer.repeat_of is not None)
    if answer.repeat_of is None:
        resolution.write(connection, item, _without(answer, item, leased), changes)
    tallies.add(connection, ref.id, changes)


def _without(answer: AnyRow, item: AnyRow, leased: bool) -> Standing:
    """The standing of an item without an answer. Items that the lead has dropped stay dropped."""
    taken = item.taken + (leased and counted(item.purpose, answer.stage, None))
    if answer.surplus:
        return Standing(item.state, item.wanted, item.given, taken)
    state, given = ADJUDICATE, item.given
    if answer.stage != ADJUDICATE:
        state, given, taken = "open", max(0, given - 1), max(0, taken - 1)
    return Standing("dropped" if item.state == "dropped" else state, item.wanted, given, taken)


def _shown_again(connection: Connection, ref: ProjectRef, member: Member, item: int) -> Assignment:
    kind = member.settings.kind
    for lease in leasing.held(connection, ref, member.person, kind):
        if lease.item == item:
            return allocation.shown_of(connection, ref, lease, member)
    raise RefusedError("conflict", "that answer was taken back before, and given again since.")
