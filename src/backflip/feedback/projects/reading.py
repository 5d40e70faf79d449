"""Reading what people said: as rows, and as columns of numbers for the statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, literal_column, or_, select

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.columns import Columns
from backflip.feedback.rating.screening import PRIOR_RIGHT, PRIOR_SEEN
from backflip.feedback.statistics.dawid_skene import dawid_skene
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import (
    Answers,
    AnyRow,
    Items,
    Leases,
    Memberships,
    People,
    contains,
)
from backflip.feedback.tasks.scoring import attribute_of

FLAGGED = Items.flags > literal_column("0")
"""Written out, so that the index of just these items is known to serve."""
PAGE = 5000
"""Answers of one query."""


@dataclass(frozen=True)
class AnswerRow:
    """An answer with all that is known of its circumstances, in the item's own order."""

    event: int
    item: int
    person: str
    """A pseudonym."""
    value: dict[str, Any]
    order: tuple[int, ...]
    """Which answer was displayed at each place."""
    score: float | None
    seconds: float | None
    at: float
    rubric_version: int
    stage: str
    surplus: bool
    correct: bool | None
    repeat_of: int | None


@dataclass(frozen=True)
class ItemRow:
    """An item as the lead sees it: with sources, gold and counts."""

    id: int
    payload: dict[str, Any]
    purpose: str
    origin: str
    batch: str
    gold: dict[str, Any] | None
    why: str
    warning: str
    priority: float
    route: str
    state: str
    wanted: int
    given: int
    skipped: int
    flags: int
    length: int | None
    lists: int | None


def judgements(ref: ProjectRef, *, until: int | None = None, part: str = "") -> Judgements:
    """All judgements, or those that stood at event ``until``.

    ``part``: of several attributes the one that is meant; none: the first. The quiz is left out,
    and what adjudicators said is gold, not a judgement among others. Earlier reading is kept
    in memory, so that only what is new is read.
    """
    with ref.database.read() as connection:
        settings = ref.settings(connection)
        attribute = attribute_of(settings, part)
        kept = ref.database.cache.setdefault(
            ("columns", ref.id, attribute), Columns(ref, settings.kind, attribute)
        )
        with kept.lock:
            kept.read(connection, settings)
            return kept.judgements(until, _groups(connection, ref))


def reliabilities(ref: ProjectRef) -> dict[int, float]:
    """P(right) of everybody who has judged, by the number of the person (Dawid and Skene).

    Drawn towards what is believed of a new rater, so that three lucky answers make nobody perfect.
    Empty for kinds whose answer is no verdict.
    """
    found = judgements(ref)
    with ref.database.read() as connection:
        kind = ref.settings(connection).kind
        query = select(People.pseudonym, People.id).where(People.pseudonym.in_(found.rater_names))
        numbers = dict(connection.execute(query).tuples().all())
    said = found.said()
    if not kind_of(kind).one_word or not len(said):
        return {}
    right = dawid_skene(found, draws=0).reliability
    count = np.bincount(said.rater, minlength=found.raters)
    drawn = (right * count + PRIOR_RIGHT) / (count + PRIOR_SEEN)
    known = [int(k) for k in np.flatnonzero(~np.isnan(right))]
    return {numbers[found.rater_names[k]]: float(drawn[k]) for k in known}


def _groups(connection: Connection, ref: ProjectRef) -> dict[str, dict[str, str]]:
    query = (
        select(People.pseudonym, Memberships.groups)
        .join(People, People.id == Memberships.person_id)
        .where(Memberships.project_id == ref.id)
    )
    return {row.pseudonym: row.groups for row in connection.execute(query)}


def answers(
    ref: ProjectRef, *, until: int | None = None, after: int = 0, items: Sequence[int] | None = None
) -> Iterator[AnswerRow]:
    """Answers in the order of their events, page by page; those taken back are left out.

    ``until`` an event number: as things stood then, whatever was taken back since.
    """
    while rows := _page(ref, until, after, items):
        for row in rows:
            yield AnswerRow(
                event=row.id,
                item=row.item_id,
                person=row.pseudonym,
                value=row.value,
                order=tuple(row.order),
                score=row.score,
                seconds=row.seconds,
                at=row.at,
                rubric_version=row.rubric_version,
                stage=row.stage,
                surplus=row.surplus,
                correct=row.correct,
                repeat_of=row.repeat_of,
            )
        after = rows[-1].id


def _page(
    ref: ProjectRef, until: int | None, after: int, items: Sequence[int] | None
) -> Sequence[AnyRow]:
    standing = Answers.undone.is_(None)
    query = (
        select(Answers, People.pseudonym)
        .join(People, People.id == Answers.person_id)
        .where(Answers.project_id == ref.id, Answers.id > after)
        .order_by(Answers.id)
        .limit(PAGE)
    )
    if until is not None:
        standing = or_(standing, Answers.undone > until)
        query = query.where(Answers.id <= until)
    if items is not None:
        query = query.where(Answers.item_id.in_(list(items)))
    with ref.database.read() as connection:
        return connection.execute(query.where(standing)).all()


@dataclass(frozen=True)
class Which:
    """Which items are meant: all that fit everything that is named."""

    state: str | None = None
    batch: str | None = None
    purpose: str | None = None
    flagged: bool = False
    ids: Sequence[int] | None = None
    text: str = ""
    """Some words of the item, in whatever case."""

    def conditions(self) -> list[Any]:
        named = (
            (Items.state, self.state),
            (Items.batch, self.batch),
            (Items.purpose, self.purpose),
        )
        found: list[Any] = [column == value for column, value in named if value is not None]
        if self.flagged:
            found.append(FLAGGED)
        if self.ids is not None:
            found.append(Items.id.in_(list(self.ids)))
        if self.text:
            found.append(contains(Items.payload, self.text))
        return found


def items(
    ref: ProjectRef,
    which: Which,
    *,
    after: int = 0,
    newest: bool = False,
    limit: int = 100,
) -> list[ItemRow]:
    """A page of items beyond the number ``after``; ``newest``: from the end, the newest first."""
    beyond = [Items.id < after if newest else Items.id > after] if after else []
    # Flagged items are few: a sum has no index, so they are looked up and sorted, not walked to.
    order = Items.id + 0 if which.flagged else Items.id
    query = (
        select(Items)
        .where(Items.project_id == ref.id, *beyond, *which.conditions())
        .order_by(order.desc() if newest else order)
        .limit(limit)
    )
    with ref.database.read() as connection:
        return [_item(row) for row in connection.execute(query)]


def holds(ref: ProjectRef, person: int, number: int, *, ever: bool = False) -> bool:
    """Whether an item lies before a rater now; ``ever``: or did before."""
    query = select(Leases.item_id).where(
        Leases.person_id == person, Leases.item_id == number, Leases.project_id == ref.id
    )
    if not ever:
        query = query.where(Leases.state == "live")
    with ref.database.read() as connection:
        return abs(number) < 2**62 and connection.scalar(query) is not None


def item(ref: ProjectRef, number: int) -> ItemRow:
    """One item. Raises RefusedError where the project has none of this number."""
    found = items(ref, Which(ids=[number]), limit=1) if abs(number) < 2**62 else []
    if not found:
        raise RefusedError("not_found", f"the project {ref.name!r} has no item {number}.")
    return found[0]


def _item(row: AnyRow) -> ItemRow:
    return ItemRow(
        id=row.id,
        payload=row.payload,
        purpose=row.purpose,
        origin=row.origin,
        batch=row.batch,
        gold=row.gold,
        why=row.why,
        warning=row.warning,
        priority=row.priority,
        route=row.route,
        state=row.state,
        wanted=row.wanted,
        given=row.given,
        skipped=row.skipped,
        flags=row.flags,
        length=row.length,
        lists=row.lists,
    )
