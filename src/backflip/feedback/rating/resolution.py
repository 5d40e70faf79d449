"""Resolution of items: enough answers are a fixed number, or more until the posterior is sure.

``settle_anew`` applies changed settings to what was said before them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, bindparam, select, update

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.rating.screening import reliability
from backflip.feedback.store import events, tallies
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.queues import ADJUDICATE, WORK, waits
from backflip.feedback.store.schema import Answers, AnyRow, Events, Items, Memberships, Projects
from backflip.feedback.tasks.scoring import consensus, posterior
from backflip.feedback.tasks.settings import ProjectSettings


@dataclass(frozen=True)
class Standing:
    """State and counts of an item."""

    state: str
    wanted: int
    given: int
    taken: int


@dataclass(frozen=True)
class Vote:
    """The answer of a rater, with the chance that it is right."""

    value: Mapping[str, Any]
    right: float
    """P(this rater is right)."""


def votes_of(connection: Connection, item: int) -> list[Vote]:
    """All that was said of an item. Repeats and undone answers are out."""
    return _votes(connection, [item])[item]


def _votes(connection: Connection, items: Sequence[int]) -> dict[int, list[Vote]]:
    """All that was said of each of some items."""
    rows = connection.execute(
        select(Answers.item_id, Answers.value, Memberships.recent, Memberships.reliability)
        .outerjoin(
            Memberships,
            (Memberships.person_id == Answers.person_id)
            & (Memberships.project_id == Answers.project_id),
        )
        .where(Answers.item_id.in_(items), Answers.undone.is_(None), Answers.repeat_of.is_(None))
        .order_by(Answers.id)
    )
    found: dict[int, list[Vote]] = {item: [] for item in items}
    for row in rows:
        right = reliability(row.recent or [], row.reliability)
        found[row.item_id].append(Vote(row.value, right))
    return found


def decide(
    settings: ProjectSettings, votes: Sequence[Vote], given: int, wanted: int
) -> tuple[str, int]:
    """State and wish of an item with ``given`` answers: open, done or adjudicate."""
    if given < wanted:
        return "open", wanted
    overlap = settings.overlap
    if overlap and wanted < overlap.max_raters:
        said = [(kind_of(settings.kind).word(vote.value) or "", vote.right) for vote in votes]
        if (
            max(posterior(said, kind_of(settings.kind).words(settings)).values())
            < overlap.threshold
        ):
            return "open", given + 1
    if settings.adjudicate_below:
        agreed = consensus(settings.kind, [vote.value for vote in votes])
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


# ---- changed settings


def thresholds(settings: ProjectSettings) -> tuple[Any, ...]:
    """The settings by which ``decide`` and skips say where an item stands."""
    return (
        settings.raters_per_item,
        settings.overlap,
        settings.adjudicate_below,
        settings.skips_to_adjudicate,
    )


def settle_anew(ref: ProjectRef, settings: ProjectSettings, by: int | None = None) -> Moved:
    """Let every item that was answered or skipped stand where these settings put it.

    A decision of a senior stays, and an item that the lead reopened or sent to the
    adjudicators stays there. Chunk by chunk: raters go on meanwhile, under the new settings.
    """
    moved: Counter[tuple[str, str]] = Counter()
    after = 0
    while True:
        with ref.database.write() as connection:
            rows = connection.execute(_BEGUN, {"project": ref.id, "after": after}).all()
            if rows:
                moved += _settle_rows(connection, ref, settings, rows)
        if not rows:
            break
        after = rows[-1].id
    if moved:
        with ref.database.write() as connection:
            connection.execute(_LOOK_AGAIN, {"number": ref.id})
            body = {f"{old} to {new}": count for (old, new), count in sorted(moved.items())}
            new = NewEvent("settled anew", by, body=body)
            events.append(connection, ref.database, ref.id, new)
    return moved


CHUNK = 500
"""Items of one transaction."""
Moved: TypeAlias = Counter[tuple[str, str]]
"""Items that changed their state, by (before, now)."""
_LOOK_AGAIN = (
    update(Projects).where(Projects.id == bindparam("number")).values(spots=Projects.spots + 1)
)
"""Raters who are far ahead look at the queue from its head again."""
_BEGUN = (
    select(
        Items.id,
        Items.purpose,
        Items.origin,
        Items.state,
        Items.wanted,
        Items.given,
        Items.taken,
        Items.skipped,
    )
    .where(
        Items.project_id == bindparam("project"),
        Items.id > bindparam("after"),
        Items.purpose == WORK,
        Items.state.in_(("open", "done", ADJUDICATE)),
        (Items.given > 0) | (Items.skipped > 0),
    )
    .order_by(Items.id)
    .limit(CHUNK)
    .with_for_update()
)


def _settle_rows(
    connection: Connection, ref: ProjectRef, settings: ProjectSettings, rows: Sequence[AnyRow]
) -> Moved:
    ids, moved = [row.id for row in rows], Moved()
    decided = set(connection.scalars(_DECIDED.where(Answers.item_id.in_(ids))))
    orders = _ordered(connection, ids)
    votes = _votes(connection, ids)
    changes: tallies.Changes = Counter()
    for row in rows:
        if row.id in decided or orders.get(row.id) == row.state:
            continue
        state, wanted = _stands(settings, row, votes[row.id])
        if (state, wanted) != (row.state, row.wanted):
            write(connection, row, Standing(state, wanted, row.given, row.taken), changes)
            if state != row.state:
                moved[row.state, state] += 1
    tallies.add(connection, ref.id, changes)
    return moved


def _stands(settings: ProjectSettings, row: AnyRow, votes: Sequence[Vote]) -> tuple[str, int]:
    """State and wish of an item, from all that was said of it."""
    limit = settings.skips_to_adjudicate
    state, wanted = decide(
        settings, votes, row.given, max(settings.raters_per_item, min(row.given, row.wanted))
    )
    if state == "open" and limit and row.skipped >= limit:
        return ADJUDICATE, wanted
    return state, wanted


_DECIDED = select(Answers.item_id).where(Answers.stage == ADJUDICATE, Answers.undone.is_(None))


def _ordered(connection: Connection, items: Sequence[int]) -> dict[int, str]:
    """The state into which a lead put each of these items last."""
    rows = connection.execute(
        select(Events.item_id, Events.body)
        .where(Events.item_id.in_(items), Events.kind == "item state")
        .order_by(Events.id)
    )
    return {row.item_id: row.body["state"] for row in rows}
