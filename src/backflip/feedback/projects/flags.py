"""Flags of raters, and their settlement by the lead: keep, drop, or a content warning.

Flags themselves stay in the log; an item counts those that nobody has settled yet.
"""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, func, select, update

from backflip.feedback.projects import administration
from backflip.feedback.projects.reading import FLAGGED
from backflip.feedback.rating.items import LONGEST_WARNING
from backflip.feedback.store import events, tallies
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Items
from backflip.feedback.store.wording import clean

LONGEST = 2000
"""Characters of a reason."""


def waiting(ref: ProjectRef) -> int:
    """How many items have flags that nobody has settled."""
    query = select(func.count()).where(Items.project_id == ref.id, FLAGGED)
    with ref.database.read() as connection:
        return connection.scalar(query) or 0


def settle(
    ref: ProjectRef,
    item: int,
    *,
    keep: bool,
    warning: str | None = None,
    reason: str = "",
    by: int | None = None,
) -> None:
    """Be done with an item's flags: ask it on, or drop it. Its answers stay either way.

    ``warning`` is put before the item, empty: none any more; None leaves what is there.
    Raises RefusedError where nothing is flagged (any more).
    """
    given = None if warning is None else _cleaned(warning)
    words = clean(reason, "reason", LONGEST, lines=True)

    def work(connection: Connection) -> None:
        row = connection.execute(
            select(Items.flags)
            .where(Items.id == item, Items.project_id == ref.id)
            .with_for_update()
        ).first()
        if row is None or not row.flags:
            raise RefusedError("conflict", f"item {item} has no flag that is still to be settled.")
        values = {"flags": 0} if given is None else {"flags": 0, "warning": given}
        connection.execute(update(Items).where(Items.id == item).values(**values))
        body = {"keep": keep, "reason": words, "flags": row.flags, "warning": given}
        new = NewEvent("flags settled", by, item, body)
        events.append(connection, ref.database, ref.id, new)
        if not keep:
            administration.set_states(connection, ref, [item], "dropped", words or "flagged", by)
        changes: tallies.Changes = Counter({(tallies.PROJECT, "flags_settled"): row.flags})
        tallies.add(connection, ref.id, changes)

    ref.database.transact(work)


def warn(ref: ProjectRef, item: int, warning: str, *, by: int | None = None) -> None:
    """Put a content warning before an item, or (empty) take it away."""
    given = _cleaned(warning)
    with ref.database.write() as connection:
        changed = connection.execute(
            update(Items).where(Items.id == item, Items.project_id == ref.id).values(warning=given)
        ).rowcount
        if not changed:
            raise RefusedError("not_found", f"the project {ref.name!r} has no item {item}.")
        new = NewEvent("warning", by, item, {"warning": given})
        events.append(connection, ref.database, ref.id, new)


def _cleaned(warning: str) -> str:
    return clean(warning, "content warning", LONGEST_WARNING, lines=True)
