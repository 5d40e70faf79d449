"""Work of one rater: their own answers as they gave them, and the rest that is left for them.

An item that lies before them at this moment is left out: it may be asked a second time to see
whether they say the same again. Whether an item's answer is known is told nowhere here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, and_, func, or_, select

from backflip.feedback.rating import rater_actions
from backflip.feedback.store import tallies
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.queues import WORK
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Answers, AnyRow, Items, Leases, contains
from backflip.feedback.tasks.display import as_displayed, in_displayed_order
from backflip.feedback.tasks.items import payload_of

MOST_LEFT = 10_000
"""Items that are counted as left: a page must not read a million."""
BATCH = 100
"""Answers of one query."""


@dataclass(frozen=True)
class OwnAnswer:
    """An answer as its rater gave it, on the item as they saw it."""

    number: int
    """Of the answer, for the page that follows."""
    payload: dict[str, Any]
    """In displayed order, without sources."""
    value: dict[str, Any]
    at: float
    seconds: float | None
    newest: bool
    """Whether it is the one that ``undo`` takes back."""


@dataclass(frozen=True)
class OwnProgress:
    """Progress of a rater."""

    answers: int
    today: int
    """Answers of this day in UTC."""
    hours: float
    left: int
    """Items at most that they may still be asked; other raters may take some of them."""
    more: bool
    """Whether there are more than were counted."""


def own_answers(
    ref: ProjectRef, person: int, *, words: str = "", before: int = 0, limit: int = 50
) -> list[OwnAnswer]:
    """Answers of one rater that were not taken back, the newest first.

    ``words``: in the item or in the answer. ``before``: the number with which the page before
    this one ended; 0: the first page.
    """
    live = (
        select(Leases.item_id)
        .where(
            Leases.item_id == Answers.item_id,
            Leases.person_id == person,
            Leases.state == "live",
        )
        .exists()
    )
    mine = (Answers.person_id == person, Answers.project_id == ref.id, Answers.undone.is_(None))
    query = (
        select(Answers.id, Answers.value, Answers.order, Answers.at, Answers.seconds)
        .add_columns(Items.payload)
        .join(Items, Items.id == Answers.item_id)
        .where(*mine, ~live)
        .order_by(Answers.id.desc())
        .limit(BATCH)
    )
    if words:
        query = query.where(or_(contains(Items.payload, words), contains(Answers.value, words)))
    found = list[OwnAnswer]()
    with ref.database.read() as connection:
        member = member_of(connection, ref, person)
        newest = rater_actions.undoable(connection, ref, member)
        while len(found) < limit:
            below = query.where(Answers.id < before) if before else query
            rows = connection.execute(below).all()
            found += [one for row in rows if _says(one := _own(row, newest), words)]
            if len(rows) < BATCH:
                break
            before = rows[-1].id
    return found[:limit]


def member_of(connection: Connection, ref: ProjectRef, person: int) -> Member:
    """A rater's standing. Raises RefusedError for who does not belong to the project."""
    member = ref.member(connection, person)
    if member is None or member.state == "removed":
        raise RefusedError("not_allowed", f"you do not belong to the project {ref.name!r}.")
    return member


def _own(row: AnyRow, newest: int | None) -> OwnAnswer:
    kind = row.payload["kind"]
    return OwnAnswer(
        number=row.id,
        payload=as_displayed(payload_of(row.payload, kind), row.order),
        value=_as_given(kind, row.value, row.order),
        at=row.at,
        seconds=row.seconds,
        newest=row.id == newest,
    )


def _says(one: OwnAnswer, words: str) -> bool:
    """Whether words stand in what the rater saw or said: not, say, in the name of a model."""
    wanted = words.casefold()
    return any(wanted in text.casefold() for text in _texts([one.payload, one.value]))


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in cast("Mapping[str, Any]", data).values():
            yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in cast("Sequence[Any]", data):
            yield from _texts(value)


def _as_given(kind: str, value: Mapping[str, Any], order: list[int]) -> dict[str, Any]:
    return in_displayed_order(kind, value, order) if order else dict(value)


def own_progress(ref: ProjectRef, person: int) -> OwnProgress:
    """From counts, and from the items that are open for this rater."""
    with ref.database.read() as connection:
        member = member_of(connection, ref, person)
        counts = tallies.read(connection, ref.id, person)
        left = connection.execute(_left(ref, member)).scalar_one()
    return OwnProgress(
        answers=int(counts.get("answers", 0)),
        today=int(counts.get(tallies.day(ref.database.now()), 0)),
        hours=counts.get("seconds", 0.0) / 3600,
        left=min(left, MOST_LEFT),
        more=left > MOST_LEFT,
    )


def _left(ref: ProjectRef, member: Member) -> Any:
    """Open items of the rater's groups that want an answer and that they have not had."""
    had = (
        select(Leases.item_id)
        .where(
            Leases.item_id == Items.id,
            Leases.person_id == member.person,
            Leases.state.in_(("answered", "skipped")),
        )
        .exists()
    )
    held = (
        select(Leases.item_id)
        .where(
            Leases.item_id == Items.id, Leases.person_id == member.person, Leases.state == "live"
        )
        .exists()
    )
    routes = ["", *(f"{group}={value}" for group, value in member.groups.items())]
    found = (
        select(Items.id)
        .where(
            Items.project_id == ref.id,
            Items.purpose == WORK,
            Items.state == "open",
            Items.route.in_(routes),
            or_(Items.taken < Items.wanted, and_(Items.given < Items.wanted, held)),
            ~had,
        )
        .limit(MOST_LEFT + 1)
        .subquery()
    )
    return select(func.count()).select_from(found)
