"""Administration by the lead: settings, priorities, dropping and reopening; and progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, insert, select, update

from backflip.errors import UserError
from backflip.feedback.rating import allocation, resolution, stalls
from backflip.feedback.rating.items import finite
from backflip.feedback.rating.resolution import Standing
from backflip.feedback.store import events, tallies
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import Member, ProjectRef
from backflip.feedback.store.queues import EVERYBODY, FULL, RANDOM, WORK
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Items, Memberships, Projects, Rubrics
from backflip.feedback.tasks.examples import with_examples
from backflip.feedback.tasks.items import payload_of, value_of
from backflip.feedback.tasks.settings import ProjectSettings, same_rubric
from backflip.text import counted

CHUNK = 500
"""Items of one transaction."""
PACE_DAYS = 7
"""Days whose answers make the pace of the forecast."""


@dataclass(frozen=True)
class Overview:
    """Progress of a project, and its end at the present pace."""

    items: int
    """Work items, those that were dropped left out."""
    done: int
    adjudicate: int
    """Waiting for an adjudicator."""
    dropped: int
    answers: int
    wanted: int
    """Answers that the items will have in the end, as far as is known."""
    given: int
    """Answers that count towards them."""
    hours: float
    """Raters' time so far."""
    money: float
    """Spent so far."""
    hours_left: float | None
    """Forecast; none before the first answer."""
    money_left: float
    days_left: float | None
    """At the pace of the last week; none where nobody answered."""
    exhausted: str
    """Which budget is used up, in words; empty: none."""
    calibration_share: float
    """Share of the answers so far that went to calibration."""
    calibrates: bool
    """Whether there are calibration items."""


def overview(ref: ProjectRef) -> Overview:
    """From counts alone, however large the project is."""
    now = ref.database.now()
    with ref.database.read() as connection:
        counts = tallies.read(connection, ref.id)
        settings = ref.settings(connection)
    answers, price = counts.get("answers", 0), settings.budget.price_per_answer
    missing = max(0.0, counts.get("wanted", 0) - counts.get("given", 0))
    seconds = counts.get("seconds", 0) / answers if answers else None
    days = [counts.get(tallies.day(now - 86_400 * back), 0) for back in range(PACE_DAYS)]
    worked = [day for day in days if day]
    pace = sum(worked) / len(worked) if worked else 0.0
    return Overview(
        items=int(counts.get("items", 0) - counts.get("dropped", 0)),
        done=int(counts.get("done", 0)),
        adjudicate=int(counts.get("adjudicate", 0)),
        dropped=int(counts.get("dropped", 0)),
        answers=int(answers),
        wanted=int(counts.get("wanted", 0)),
        given=int(counts.get("given", 0)),
        hours=counts.get("seconds", 0) / 3600,
        money=answers * price,
        hours_left=None if seconds is None else missing * seconds / 3600,
        money_left=missing * price,
        days_left=missing / pace if pace else None,
        exhausted=allocation.over_budget(settings.budget, counts),
        calibration_share=counts.get("calibration", 0) / answers if answers else 0.0,
        calibrates=counts.get("items:calibration", 0) > 0,
    )


def configure(ref: ProjectRef, settings: ProjectSettings, by: int | None) -> int:
    """New settings; the number of the rubric's version, which is new where raters read another one.

    Whatever decides how many answers an item needs applies to what was answered before, too.
    """
    settings = with_examples(settings)

    def work(connection: Connection) -> tuple[int, ProjectSettings]:
        version = connection.scalars(
            select(Projects.rubric_version).where(Projects.id == ref.id).with_for_update()
        ).one()
        before = ref.settings(connection)
        if settings.kind != before.kind:
            raise UserError(
                f"the project asks for {before.kind!r}, which cannot change to "
                f"{settings.kind!r}: its items would not fit. Make a new project."
            )
        if settings != before:
            version = _change(connection, ref, before, settings, version)
            body = {"settings": settings.model_dump(mode="json")}
            new = NewEvent("settings", by, body=body, version=version)
            events.append(connection, ref.database, ref.id, new)
        return version, before

    version, before = ref.database.transact(work)
    if resolution.thresholds(settings) != resolution.thresholds(before):
        resolution.settle_anew(ref, settings, by)
    return version


def _change(
    connection: Connection,
    ref: ProjectRef,
    before: ProjectSettings,
    settings: ProjectSettings,
    version: int,
) -> int:
    """Store the settings; the version of the rubric that holds from now on."""
    _check_gold(connection, ref, settings)
    kept = settings.model_dump(mode="json")
    if not same_rubric(settings, before):
        version += 1
        made = {"project_id": ref.id, "version": version, "settings": kept}
        connection.execute(insert(Rubrics), {**made, "created": ref.database.now()})
    connection.execute(
        update(Projects).where(Projects.id == ref.id).values(settings=kept, rubric_version=version)
    )
    if settings.raters_per_item != before.raters_per_item:
        _resize(connection, ref, settings.raters_per_item)
    if before.screening and not settings.screening:
        connection.execute(
            update(Memberships)
            .where(Memberships.project_id == ref.id, Memberships.state == "screening")
            .values(state="active", recent=[])
        )
    return version


def _check_gold(connection: Connection, ref: ProjectRef, settings: ProjectSettings) -> None:
    """Refuse settings under which answers that are known to be right would no longer be answers:
    all raters would be wrong, and paused.
    """
    known = select(Items.id, Items.payload, Items.gold).where(
        Items.project_id == ref.id, Items.queue.in_(EVERYBODY)
    )
    for row in connection.execute(known):
        try:
            value_of(row.gold, payload_of(row.payload, settings.kind), settings, f"item {row.id}")
        except UserError as error:
            raise UserError(
                f"the known answer of {error} Drop the items whose known answers do not fit the "
                "new settings, or leave this setting as it was."
            ) from None


def _resize(connection: Connection, ref: ProjectRef, raters: int) -> None:
    """Another number of raters for each item that nobody has answered; for others see
    ``resolution.settle_anew``.
    """
    arm = case((Items.origin == RANDOM, RANDOM), else_=WORK)
    queue = case((Items.taken >= raters, FULL), else_=arm)
    untouched = (Items.project_id == ref.id, Items.purpose == WORK, Items.state == "open")
    connection.execute(
        update(Items).where(*untouched, Items.given == 0).values(wanted=raters, queue=queue)
    )
    _reorder(connection, ref)
    recount(connection, ref)


def recount(connection: Connection, ref: ProjectRef) -> None:
    """Count the work items anew, where changing counts one by one would be no quicker."""
    work = (Items.project_id == ref.id, Items.purpose == WORK)
    grouped = select(Items.state, func.count().label("many")).where(*work).group_by(Items.state)
    states = {row.state: row.many for row in connection.execute(grouped)}
    hoped = case((Items.state == "open", Items.wanted), else_=Items.given)
    sums = connection.execute(
        select(
            func.count().label("items"),
            func.coalesce(func.sum(hoped), 0).label("wanted"),
            func.coalesce(func.sum(Items.given), 0).label("given"),
        ).where(*work)
    ).one()
    true = {
        "items": sums.items,
        "wanted": int(sums.wanted),
        "given": int(sums.given),
        **{state: states.get(state, 0) for state in ("done", "adjudicate", "dropped")},
    }
    now = tallies.read(connection, ref.id, names=true)
    changes: tallies.Changes = Counter(
        {(tallies.PROJECT, name): value - int(now.get(name, 0)) for name, value in true.items()}
    )
    tallies.add(connection, ref.id, changes)


def prioritise(
    ref: ProjectRef, priorities: Mapping[int, float | int], origin: str | None, by: int | None
) -> int:
    """New priorities, chunk by chunk; items of the named arm change their queue with it."""
    pairs, changed = sorted(priorities.items()), 0
    arm = RANDOM if origin == RANDOM else WORK
    for start in range(0, len(pairs), CHUNK):
        with ref.database.write() as connection:
            for item, priority in pairs[start : start + CHUNK]:
                values: dict[str, Any] = {"priority": finite(priority, f"item {item}")}
                if origin is not None:
                    waiting = Items.queue.in_((WORK, RANDOM))
                    values |= {
                        "origin": origin,
                        "queue": case((waiting, arm), else_=Items.queue),
                    }
                changed += connection.execute(
                    update(Items)
                    .where(Items.id == item, Items.project_id == ref.id)
                    .values(**values)
                ).rowcount
            _reorder(connection, ref)
            body = {"count": len(pairs[start : start + CHUNK]), "origin": origin}
            new = NewEvent("priorities", by, body=body)
            events.append(connection, ref.database, ref.id, new)
    return changed


def _reorder(connection: Connection, ref: ProjectRef) -> None:
    """Tell raters who are far ahead to look again from the head of the queue."""
    connection.execute(
        update(Projects).where(Projects.id == ref.id).values(spots=Projects.spots + 1)
    )


def set_state(
    ref: ProjectRef, item_ids: Sequence[int], state: str, reason: str, by: int | None
) -> int:
    """Drop, reopen or send to adjudication; how many changed."""
    changed, ids = 0, sorted(set(item_ids))
    for start in range(0, len(ids), CHUNK):
        with ref.database.write() as connection:
            changed += set_states(connection, ref, ids[start : start + CHUNK], state, reason, by)
    return changed


def set_states(
    connection: Connection,
    ref: ProjectRef,
    ids: list[int],
    state: str,
    reason: str,
    by: int | None,
) -> int:
    """The same inside the caller's transaction, of at most ``CHUNK`` items."""
    rows = connection.execute(
        select(
            Items.id,
            Items.purpose,
            Items.origin,
            Items.state,
            Items.wanted,
            Items.given,
            Items.taken,
        )
        .where(Items.project_id == ref.id, Items.id.in_(ids), Items.state != state)
        .order_by(Items.id)
        .with_for_update()
    ).all()
    changes: tallies.Changes = Counter()
    body = {"state": state, "reason": reason[:1000]}
    for row in rows:
        more = state == "open" and row.purpose not in EVERYBODY
        wanted = max(row.wanted, row.given + 1) if more else row.wanted
        resolution.write(connection, row, Standing(state, wanted, row.given, row.taken), changes)
        new = NewEvent("item state", by, row.id, body)
        events.append(connection, ref.database, ref.id, new)
    _reorder(connection, ref)
    tallies.add(connection, ref.id, changes)
    return len(rows)


def why_nothing(ref: ProjectRef, person: int, queue: str) -> str:
    """Why a rater gets nothing, as far as it can be known without looking for an item."""
    with ref.database.read() as connection:
        member = ref.member(connection, person)
        counts = tallies.read(connection, ref.id)
    if member is None or member.state == "removed":
        raise RefusedError("not_allowed", f"you do not belong to the project {ref.name!r}.")
    if closed := _shut(member):
        return closed
    if exhausted := allocation.over_budget(member.settings.budget, counts):
        return f"Nothing more is asked: {exhausted}."
    if member.state == "screening":
        return "The quiz has no questions left; the project's lead has to add some."
    if queue != WORK:
        return "Nothing waits for an adjudicator."
    left = counts.get("items", 0) - counts.get("done", 0) - counts.get("dropped", 0)
    return _others(ref) if left > 0 else "Everything is done. Thank you."


def _others(ref: ProjectRef) -> str:
    """Who has what is left, for a rater who has seen all that they may."""
    waiting = sum(one.items for one in stalls.stalls(ref))
    if not waiting:
        return "You have seen all that waits for you; other raters have the rest."
    return (
        f"You have seen all that waits for you. {counted(waiting, 'item waits', 'items wait')} for "
        "raters who do not exist yet; the project’s lead can invite some, or ask for fewer answers "
        "an item."
    )


def _shut(member: Member) -> str:
    """Why nothing at all is asked of this rater; empty: it is."""
    if member.archived:
        return "The project is archived. Nothing more is asked in it."
    if member.state != "paused":
        return ""
    because = {
        "gold": "too many of your answers differ from those that are known to be right",
        "screening": "the quiz was not passed",
    }.get(member.reason, member.reason)
    return f"You are paused{': ' + because if because else ''}. Talk to the project's lead."
