"""Adding items: each is checked, fingerprinted, and stored once.

A million items take some minutes: rows are made outside the database's lock and written in chunks,
so raters hardly notice an import.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection, text, update

from backflip.data.records import Tally
from backflip.errors import UserError
from backflip.feedback.kinds.fields import Payload
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.store import events, tallies
from backflip.feedback.store.database import insert_into
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.queues import EVERYBODY, Purpose, home
from backflip.feedback.store.schema import Items, Projects, Written
from backflip.feedback.store.wording import clean
from backflip.feedback.tasks.identity import identify
from backflip.feedback.tasks.items import payload_of, value_of
from backflip.feedback.tasks.settings import ProjectSettings

CHUNK = 2000
"""Items of one transaction."""
LONGEST_WARNING = 2000
"""Characters of a content warning."""
Check: TypeAlias = Callable[[Payload], str]
ANALYZE = 10_000
"""So many new items change what the query planner should know."""


@dataclass(frozen=True)
class NewItem:
    """An item with what is its own; the rest comes from the call that adds it."""

    payload: Payload | dict[str, Any]
    gold: dict[str, Any] | None = None
    """The answer that is known to be right, in the item's own order."""
    why: str = ""
    """Explains the gold answer, as feedback."""
    priority: float | int | None = None
    route: str | None = None
    warning: str = ""
    """A content warning of its own: blurred until asked for."""
    purpose: Purpose | None = None
    """Where it is not that of the call."""
    origin: str = ""
    batch: str = ""
    """The same; empty: those of the call."""


@dataclass(frozen=True)
class Added:
    """Outcome of adding items."""

    count: int
    """Stored."""
    duplicates: int
    """Left out: the project has them already, perhaps the other way round."""
    twins: int = 0
    """Left out: two of the answers are the same, so there is nothing to compare."""
    refused: Tally = field(default_factory=Tally)
    """Left out: wrong columns or values, by reason (only with ``strict=False``)."""


@dataclass(frozen=True)
class Batch:
    """Properties that the items of one call share."""

    origin: str = "given"
    """random and active are the arms of an active choice; else where the items came from."""
    priority: float | int = 0.0
    """Higher is asked first."""
    batch: str = ""
    purpose: Purpose | None = None
    """None: gold where a gold answer is given, else work."""
    route: str = ""
    """Which raters may get them: "language=de", as in their groups; empty: all."""
    strict: bool = True
    """Whether a bad item ends the call; else it is counted and left out."""
    check: Check | None = None
    """Why an item cannot be asked here, a clip that is missing for example; empty: it can."""


def add(
    ref: ProjectRef,
    payloads: Iterable[Payload | dict[str, Any] | NewItem],
    gold: Iterable[dict[str, Any] | None] | None,
    batch: Batch,
) -> Added:
    """Store items. Raises UserError for the first bad one, or counts it (``batch.strict``).

    Items before a bad one are stored; giving all of them once more does no harm.
    """
    clean(batch.origin, "origin", 40)
    clean(batch.batch, "name of the batch", 100)
    with ref.database.read() as connection:
        settings = ref.settings(connection)
    refused, twins, count, seen = Tally(), 0, 0, 0
    rows = _rows(ref, settings, _with_gold(payloads, gold), batch, refused)
    while chunk := list(islice(rows, CHUNK)):
        fresh = [row for row in chunk if row is not None]
        twins += len(chunk) - len(fresh)
        seen += len(fresh)
        count += _store(ref, fresh, batch)
    if count >= ANALYZE:
        with ref.database.write(durable=False) as connection:
            if ref.database.embedded:
                connection.execute(text("PRAGMA analysis_limit=1000"))
            connection.execute(text("ANALYZE"))
    return Added(count, seen - count, twins, refused)


def _with_gold(
    payloads: Iterable[Payload | dict[str, Any] | NewItem],
    gold: Iterable[dict[str, Any] | None] | None,
) -> Iterator[NewItem]:
    """Items with their gold answers, whichever way they were given."""
    if gold is None:
        yield from (g if isinstance(g, NewItem) else NewItem(g) for g in payloads)
        return
    answers = iter(gold)
    for number, given in enumerate(payloads, 1):
        answer = next(answers, _NOTHING)
        if answer is _NOTHING:
            raise UserError(f"item {number}: there are fewer gold answers than items.")
        yield given if isinstance(given, NewItem) else NewItem(given, gold=cast(Any, answer))
    if next(answers, _NOTHING) is not _NOTHING:
        raise UserError("there are more gold answers than items.")


_NOTHING = object()


def _rows(
    ref: ProjectRef,
    settings: ProjectSettings,
    given: Iterable[NewItem],
    batch: Batch,
    refused: Tally,
) -> Iterator[dict[str, Any] | None]:
    """Rows of the table; none for a pair with itself."""
    for number, item in enumerate(given, 1):
        where = f"item {number}"
        try:
            row = _row(ref, settings, item, batch, where)
        except UserError as error:
            if batch.strict:
                raise
            refused.add(str(error).removeprefix(f"{where}: "), where)
            continue
        yield row


def _row(
    ref: ProjectRef, settings: ProjectSettings, item: NewItem, batch: Batch, where: str
) -> dict[str, Any] | None:
    payload = payload_of(item.payload, settings.kind, where)
    _check_clips(payload, where)
    if batch.check is not None and (fault := batch.check(payload)):
        raise UserError(f"{where}: {fault}")
    gold, purpose = _gold(item, payload, settings, batch, where)
    known = identify(payload)
    if known.twins:
        return None
    route = item.route if item.route is not None else batch.route
    origin = clean(item.origin, f"origin of {where}", 40) or batch.origin
    clean(item.batch, f"batch of {where}", 100)
    _check_route(route, settings, where)
    return {
        "project_id": ref.id,
        "payload": Written(payload.model_dump_json()),
        "digest": known.digest,
        "purpose": purpose,
        "origin": origin,
        "batch": item.batch or batch.batch,
        "gold": gold,
        "why": clean(item.why, f"explanation of {where}", 100_000, lines=True),
        "warning": clean(item.warning, f"content warning of {where}", LONGEST_WARNING, lines=True),
        "priority": finite(batch.priority if item.priority is None else item.priority, where),
        "spot": int(known.digest[:8], 16) if settings.order == "shuffled" else None,
        "route": route,
        "queue": home(purpose, origin),
        "state": "open",
        "wanted": 1 if purpose == "golden" else settings.raters_per_item,
        "given": 0,
        "taken": 0,
        "skipped": 0,
        "flags": 0,
        "left": known.left,
        "right": known.right,
        "length": known.length,
        "lists": known.lists,
    }


def _check_clips(payload: Payload, where: str) -> None:
    """Raises UserError for clips that no rater would see: pages load from this server alone."""
    for clip in kind_of(payload.kind).clips(payload):
        if clip.url and (clip.url[:1] != "/" or clip.url[1:2] in ("/", "\\")):
            raise UserError(
                f"{where}: pages load nothing from elsewhere, so {clip.url[:80]!r} would not be "
                'shown; send the clip to the project, and name it here: {"file": "NAME"}.'
            )


def finite(priority: float | int, where: str) -> float:
    """A priority that can be put in order with all others. Raises UserError for NaN and ±∞."""
    if not math.isfinite(priority):
        raise UserError(f"{where}: priority {priority} has no place in an order; give a number.")
    return float(priority)


def _gold(
    item: NewItem, payload: Payload, settings: ProjectSettings, batch: Batch, where: str
) -> tuple[dict[str, Any] | None, Purpose]:
    named = batch.purpose or item.purpose
    purpose: Purpose = named or ("work" if item.gold is None else "gold")
    if item.gold is None:
        if purpose in EVERYBODY:
            raise UserError(f"{where}: items for {purpose} need a gold answer; give gold=….")
        return None, purpose
    if not kind_of(settings.kind).golden:
        raise UserError(f"{where}: {settings.kind} has no single right answer; leave gold out.")
    value = value_of(item.gold, payload, settings, f"{where}, gold")
    return value.model_dump(mode="json"), purpose


def _check_route(route: str, settings: ProjectSettings, where: str) -> None:
    if not route:
        return
    group, _, value = route.partition("=")
    if value not in settings.groups.get(group, ()):
        known = [f"{name}={one}" for name, values in settings.groups.items() for one in values]
        raise UserError(
            f"{where}: no rater can be of {route!r}; the project's groups are "
            f"{', '.join(known) or 'none'}."
        )


def _store(ref: ProjectRef, rows: list[dict[str, Any]], batch: Batch) -> int:
    """Write rows, leave out what is there already, and return how many were new."""
    if not rows:
        return 0
    database, total = ref.database, 0
    new = insert_into(Items, database.embedded).on_conflict_do_nothing(
        index_elements=["project_id", "digest"]
    )
    with database.write() as connection:
        _place(connection, ref, rows)
        for purpose, group in groupby(sorted(rows, key=_purpose), key=_purpose):
            same = list(group)
            options = {"preserve_rowcount": True}
            count = connection.execute(new, same, execution_options=options).rowcount
            _count(connection, ref, purpose, count, wanted=same[0]["wanted"])
            body = {
                "count": count,
                "duplicates": len(same) - count,
                "origin": batch.origin,
                "batch": batch.batch,
                "purpose": purpose,
            }
            events.append(connection, database, ref.id, NewEvent("items", body=body))
            total += count
    return total


_purpose = itemgetter("purpose")


def _count(
    connection: Connection, ref: ProjectRef, purpose: str, count: int, *, wanted: int
) -> None:
    changes: tallies.Changes = Counter()
    if purpose == "work":
        changes[tallies.PROJECT, "items"] += count
        changes[tallies.PROJECT, "wanted"] += count * wanted
    else:
        changes[tallies.PROJECT, f"items:{purpose}"] += count
    tallies.add(connection, ref.id, changes)


def _place(connection: Connection, ref: ProjectRef, rows: list[dict[str, Any]]) -> None:
    """Count arrivals, and give rows the next places where the project asks in the given order."""
    last = connection.execute(
        update(Projects)
        .where(Projects.id == ref.id)
        .values(spots=Projects.spots + len(rows))
        .returning(Projects.spots)
    ).scalar_one()
    if rows[0]["spot"] is None:
        for row, spot in zip(rows, range(last - len(rows), last), strict=True):
            row["spot"] = -spot - 1
