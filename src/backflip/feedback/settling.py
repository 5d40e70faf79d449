"""When an item has enough answers: a fixed number, or more until its posterior is sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from backflip.feedback import tallies
from backflip.feedback.queues import ADJUDICATE, waits
from backflip.feedback.schema import Answers, AnyRow, Items, Memberships
from backflip.feedback.scoring import consensus, posterior, word_of, words
from backflip.feedback.screening import reliability
from backflip.feedback.settings import ProjectSettings


@dataclass(frozen=True)
class Standing:
    """Where an item stands."""

    state: str
    wanted: int
    given: int
    taken: int


@dataclass(frozen=True)
class Vote:
    """What somebody said of an item."""

    value: Mapping[str, Any]
    right: float
    """P(this rater is right)."""


def votes_of(connection: Connection, item: int) -> list[Vote]:
    """All that was said of an item. Repeats and undone answers are out."""
    rows = connection.execute(
        select(Answers.value, Memberships.recent, Memberships.reliability)
        .outerjoin(
            Memberships,
            (Memberships.person_id == Answers.person_id)
            & (Memberships.project_id == Answers.project_id),
        )
        .where(Answers.item_id == item, Answers.undone.is_(None), Answers.repeat_of.is_(None))
    )
    return [Vote(row.value, reliability(row.recent or [], row.reliability)) for row in rows]


def decide(
    settings: ProjectSettings, votes: Sequence[Vote], given: int, wanted: int
) -> tuple[str, int]:
    """State and wish of an item with ``given`` answers: open, done or adjudicate."""
    if given < wanted:
        return "open", wanted
    overlap = settings.overlap
    if overlap and wanted < overlap.max_raters:
        said = [(word_of(settings.kind, vote.value) or "", vote.right) for vote in votes]
        if max(posterior(said, words(settings)).values()) < overlap.threshold:
            return "open", given + 1
    if settings.adjudicate_below:
        agreed = consensus(settings.kind, [vote.value for vote in votes], settings)
        if agreed < settings.adjudicate_below:
            return ADJUDICATE, wanted
    return "done", wanted


_STANDS = update(Items).where(Items.id == bindparam("number"))


def write(
    connection: Connection, item: AnyRow, standing: Standing, changes: tallies.Changes
) -> None:
    """Store where an item stands now, with its queue, and count the change of state."""
    queue = waits(
        purpose=item.purpose,
        origin=item.origin,
        state=standing.state,
        taken=standing.taken,
        wanted=standing.wanted,
    )
    values = {
        "number": item.id,
        "state": standing.state,
        "wanted": standing.wanted,
        "given": standing.given,
        "taken": standing.taken,
        "queue": queue,
    }
    connection.execute(_STANDS, values)
    if item.purpose == "work":
        count_change(item, standing, changes)


def count_change(item: AnyRow, standing: Standing, changes: tallies.Changes) -> None:
    """The project's counts by state, of work items only."""
    whole = tallies.PROJECT
    if standing.state != item.state:
        if item.state != "open":
            changes[whole, item.state] -= 1
        if standing.state != "open":
            changes[whole, standing.state] += 1
    changes[whole, "wanted"] += _hoped(standing) - _hoped(item)
    changes[whole, "given"] += standing.given - item.given


def _hoped(standing: Standing | AnyRow) -> int:
    """Answers that an item will have in the end: one that is no longer asked gets no more."""
    return standing.wanted if standing.state == "open" else standing.given
