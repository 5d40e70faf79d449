"""Allocation: the next items of a rater.

First what they hold already (a page that was closed goes on where it was), then the quiz,
then the agreed examples, then work: now and then an item whose answer is known, or one that the
rater has answered before; else the waiting item of the highest priority that is theirs to see.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, literal, select

from backflip.feedback.rating import leases as leasing
from backflip.feedback.rating import screening, waiting
from backflip.feedback.rating.leases import Held, Pick
from backflip.feedback.store import tallies
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.queues import ADJUDICATE, RANDOM, SENIORS, WORK
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Answers, AnyRow, AnySelect, Items
from backflip.feedback.tasks.display import Order, seed_of
from backflip.feedback.tasks.settings import Budget
from backflip.text import counted

AT_ONCE = 20
"""Items that one rater may hold."""


@dataclass(frozen=True)
class Progress:
    """Progress of a rater and of the project."""

    answered: int
    """By this rater."""
    done: int
    items: int


@dataclass(frozen=True)
class Assignment:
    """An item lent to one rater, as that rater sees it. ``page`` is what may leave the server."""

    item_id: int
    """Known to the server alone."""
    alias: int
    """This rater's number of the item."""
    kind: str
    payload: dict[str, Any]
    """In displayed order, without sources."""
    order: Order
    lease_end: float
    """Unix seconds."""
    stage: str
    """screening, calibration, work, adjudicate or golden."""
    repeat: bool
    """Hidden from the page."""
    warning: str
    """A content warning of the item's own; empty: none but the project's."""
    progress: Progress
    rubric_version: int

    def page(self) -> dict[str, Any]:
        """The payload for a rater's browser: nothing in it tells gold, repeats or the order."""
        return {
            "item": self.alias,
            "stage": self.stage,
            "payload": self.payload,
            "warning": self.warning,
            "lease_end": self.lease_end,
        }


def admitted(connection: Connection, ref: ProjectRef, person: int) -> Member:
    """A person's membership. Raises RefusedError for anybody who has none."""
    member = ref.member(connection, person, lock=True)
    if member is None or member.state == "removed":
        raise RefusedError(
            "not_allowed",
            f"you do not belong to the project {ref.name!r}; ask for an invitation.",
        )
    return member


def next_items(
    ref: ProjectRef, person: int, *, count: int = 1, queue: str = WORK, hold: Sequence[int] = ()
) -> list[Assignment]:
    """Up to ``count`` items for a rater, apart from those that their page holds already.

    A spent budget ends raters' work; seniors still settle what is disputed.
    """
    count = max(1, min(count, AT_ONCE))

    def choose(connection: Connection) -> list[Assignment]:
        member = admitted(connection, ref, person)
        _check_queue(member, queue)
        return _serve(connection, ref, member, count, queue, frozenset(hold))

    return ref.database.transact(choose, durable=False)


def _check_queue(member: Member, queue: str) -> None:
    if queue not in (WORK, ADJUDICATE, "golden"):
        raise RefusedError("not_found", f"there is no queue {queue!r}; use work or adjudicate.")
    if queue != WORK and member.role not in SENIORS:
        raise RefusedError("not_allowed", f"only adjudicators and leads may open {queue!r}.")


def _serve(
    connection: Connection,
    ref: ProjectRef,
    member: Member,
    count: int,
    queue: str,
    hold: frozenset[int],
) -> list[Assignment]:
    settings, now = member.settings, ref.database.now()
    if member.state == "paused" or member.archived:
        return []
    leasing.sweep(connection, ref, now, settings.lease_seconds)
    project, own = tallies.standing(connection, ref.id, member.person)
    held = leasing.held(connection, ref, member.person, settings.kind)
    leases = [lease for lease in held if lease.wanted]
    stages = _stages(member) if queue == WORK else (queue,)
    fits = [lease for lease in leases if lease.stage in stages]
    chosen = [lease for lease in fits if lease.item not in hold][:count]
    if chosen:
        end = now + settings.lease_seconds
        leasing.renew(connection, member.person, [lease.item for lease in chosen], end)
    room = min(count - len(chosen), AT_ONCE - len(leases))
    if member.state == "screening":
        asked = len(member.recent) + sum(lease.stage == "screening" for lease in leases)
        room = min(room, screening.questions(connection, ref, member) - asked)
    shown = int(own.get("shown", 0))
    fresh = list[Held]()
    spent = queue == WORK and over_budget(settings.budget, project)
    while len(fresh) < room and not spent:
        pick = _pick(connection, ref, member, queue, shown + len(fresh))
        if pick is None:
            break
        moment = now + 1e-6 * len(fresh)  # so that they come back in this order
        fresh.append(leasing.take(connection, ref, member, pick, moment))
    if fresh:
        changes: tallies.Changes = Counter({(member.person, "shown"): len(fresh)})
        tallies.add(connection, ref.id, changes)
    progress = _progress(project, own)
    return [_shown(lease, member, progress) for lease in [*chosen, *fresh]]


def shown_of(connection: Connection, ref: ProjectRef, lease: Held, member: Member) -> Assignment:
    """The assignment of a rater who holds this lease."""
    return _shown(lease, member, progress_of(connection, ref, member.person))


def progress_of(connection: Connection, ref: ProjectRef, person: int) -> Progress:
    """How far a rater and the project are."""
    return _progress(*tallies.standing(connection, ref.id, person))


def _progress(project: tallies.Counts, own: tallies.Counts) -> Progress:
    return Progress(
        int(own.get("answers", 0)), int(project.get("done", 0)), int(project.get("items", 0))
    )


def _stages(member: Member) -> tuple[str, ...]:
    """Stages that are open to a rater now: the quiz, or those after it."""
    return ("screening",) if member.state == "screening" else ("calibration", "work")


def _shown(lease: Held, member: Member, progress: Progress) -> Assignment:
    return Assignment(
        item_id=lease.item,
        alias=member.alias(lease.item),
        kind=lease.payload.kind,
        payload=leasing.displayed(lease),
        order=lease.order,
        lease_end=lease.expires,
        stage=lease.stage,
        repeat=lease.repeat_of is not None,
        warning=lease.warning,
        progress=progress,
        rubric_version=member.version,
    )


def over_budget(budget: Budget, counts: Mapping[str, float]) -> str:
    """The part of the budget that has run out, in words; empty while there is enough."""
    if budget.items is not None and counts.get("done", 0) >= budget.items:
        return f"the budget of {counted(budget.items, 'item')} is used up"
    if budget.hours is not None and counts.get("seconds", 0) >= 3600 * budget.hours:
        return f"the budget of {budget.hours:g} hours is used up"
    spent = counts.get("answers", 0) * budget.price_per_answer
    if budget.money is not None and spent >= budget.money:
        return f"the budget of {budget.money:g} {budget.currency}".rstrip() + " is used up"
    return ""


def _pick(
    connection: Connection, ref: ProjectRef, member: Member, queue: str, number: int
) -> Pick | None:
    """One item. ``number``: how many were shown to this rater before, which seeds the chance."""
    if queue != WORK:
        row = waiting.best(connection, ref, member, queue, number)
        return _of(row, queue, counted=queue == "golden") if row else None
    if member.state == "screening":
        return _known(connection, ref, member, "screening", number)
    if member.settings.calibration:
        agreed = _known(connection, ref, member, "calibration", number)
        if agreed:
            return agreed
    settings = member.settings
    chance = random.Random(seed_of(ref.id, member.salt, member.person, number))
    draw = chance.random()
    special = None
    if draw < settings.gold_share:
        special = _known(connection, ref, member, "gold", number)
    elif draw < settings.gold_share + settings.repeat_share:
        special = _again(connection, ref, member, chance)
    if special:
        return special
    arms = (WORK, RANDOM) if chance.random() >= settings.random_share else (RANDOM, WORK)
    for arm in arms:
        row = waiting.best(connection, ref, member, arm, number)
        if row:
            return _of(row, "work", counted=True)
    return None


def _of(row: AnyRow, stage: str, *, counted: bool) -> Pick:
    return Pick(row.id, row.payload, stage, counted=counted, warning=row.warning)


def _known(
    connection: Connection, ref: ProjectRef, member: Member, queue: str, number: int
) -> Pick | None:
    """An item with a known answer that this rater has not had: any of the first few, by chance."""
    rows = waiting.first_few(connection, ref, member, queue)
    if not rows:
        return None
    best = [row for row in rows if row.priority == max(row.priority for row in rows)]
    row = best[seed_of(member.salt, member.person, queue, number) % len(best)]
    return _of(row, "work" if queue == "gold" else queue, counted=False)


def _repeatable(ref: ProjectRef, member: Member, before: int) -> AnySelect:
    """A rater's oldest plain answer before an event whose item was not asked twice."""
    other = Answers.__table__.alias("other")
    repeated = (
        select(literal(1))
        .where(
            other.c.item_id == Answers.item_id,
            other.c.person_id == member.person,
            other.c.repeat_of.is_not(None),
        )
        .exists()
    )
    return (
        select(Answers.id, Answers.item_id, Items.payload, Items.warning)
        .join(Items, Items.id == Answers.item_id)
        .where(
            Answers.person_id == member.person,
            Answers.project_id == ref.id,
            Answers.id < before,
            Answers.stage == "work",
            Answers.undone.is_(None),
            Answers.correct.is_(None),
            Answers.repeat_of.is_(None),
            ~repeated,
        )
        .order_by(Answers.id)
        .limit(1)
    )


def _again(
    connection: Connection, ref: ProjectRef, member: Member, chance: random.Random
) -> Pick | None:
    """An item that the rater has answered, long enough ago, and not twice."""
    own = (Answers.person_id == member.person, Answers.project_id == ref.id)
    gap = select(Answers.id).where(*own).order_by(Answers.id.desc())
    latest = connection.scalar(gap.offset(member.settings.repeat_gap - 1).limit(1))
    first = connection.scalar(select(Answers.id).where(*own).order_by(Answers.id).limit(1))
    if latest is None or first is None:
        return None
    free = _repeatable(ref, member, latest)
    pivot = chance.randint(first, latest)
    row = connection.execute(free.where(Answers.id >= pivot)).first()
    row = row or connection.execute(free).first()
    if row is None:
        return None
    return Pick(
        row.item_id,
        row.payload,
        "work",
        counted=False,
        repeat_of=row.id,
        warning=row.warning,
    )
