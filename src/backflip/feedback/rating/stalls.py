"""Items that wait for raters who do not exist: everybody who may judge them has had them.

Raters are members with that role, and whoever else has judged; who is paused or has left counts no
more. A rater who skipped an item is not asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.queues import WORK
from backflip.feedback.store.schema import Answers, Items, Leases, Memberships
from backflip.text import counted

MOST = 20_000
"""Open items that are looked at."""
GLANCE = 300
"""Open items that are looked at where somebody waits for a page, which must not read a million."""


@dataclass(frozen=True)
class Stall:
    """Items of one route that nobody can finish."""

    route: str
    """For whom they are: "language=de"; empty: for everybody."""
    items: int
    raters: int
    """Members who may judge them."""
    wanted: int
    """Answers that the item with most of them wants."""
    more: bool = False
    """Whether there are more open items than were looked at."""

    def in_words(self) -> str:
        """A sentence for whoever leads the project."""
        group = f" of {self.route.replace('=', ' ')}" if self.route else ""
        waits = counted(self.items, "item waits", "items wait")
        waits = f"at least {waits}" if self.more else waits
        if not self.raters:
            why = f"no member of the project rates{' as ' + group[4:] if group else ''}"
        elif self.raters < self.wanted:
            there = counted(self.raters, "rater", "raters")
            why = f"{counted(self.wanted, 'answer')} each, and {there}{group} in the project"
        else:
            only = "the only rater" if self.raters == 1 else f"all {self.raters:,} raters"
            why = f"{only}{group} had {'it' if self.items == 1 else 'them'}"
        return f"{waits} for raters who do not exist: {why}"


def stalls(ref: ProjectRef, most: int = MOST) -> list[Stall]:
    """Stalled items of a project, by route; none before anybody was let in to rate.

    ``most``: open items of each route that are looked at.
    """
    with ref.database.read() as connection:
        members = _raters(connection, ref)
        if not members:
            return []
        mine = (Items.project_id == ref.id, Items.purpose == WORK, Items.state == "open")
        open_ = select(Items.route).where(*mine).limit(most).subquery()
        routes = connection.scalars(select(open_.c.route).distinct()).all()
        found = [_stall(connection, ref, route, members, most) for route in sorted(routes)]
    return [one for one in found if one is not None]


def _raters(connection: Connection, ref: ProjectRef) -> list[tuple[int, dict[str, str]]]:
    """Number and groups of everybody who rates, or will after the quiz."""
    judged = (
        select(Answers.id)
        .where(
            Answers.person_id == Memberships.person_id,
            Answers.project_id == ref.id,
            Answers.stage == WORK,
        )
        .exists()
    )
    query = select(Memberships.person_id, Memberships.groups).where(
        Memberships.project_id == ref.id,
        Memberships.state.in_(("active", "screening")),
        (Memberships.role == "rater") | judged,
    )
    return [(row.person_id, row.groups) for row in connection.execute(query)]


def _stall(
    connection: Connection,
    ref: ProjectRef,
    route: str,
    members: Sequence[tuple[int, dict[str, str]]],
    most: int,
) -> Stall | None:
    group, _, value = route.partition("=")
    able = [person for person, groups in members if not route or groups.get(group) == value]
    had = (
        select(func.count())
        .where(
            Leases.item_id == Items.id,
            Leases.person_id.in_(able),
            Leases.state.in_(("answered", "skipped")),
        )
        .scalar_subquery()
    )
    looked = (
        select(Items.wanted, (Items.wanted - Items.given).label("missing"), had.label("had"))
        .where(
            Items.project_id == ref.id,
            Items.purpose == WORK,
            Items.state == "open",
            Items.route == route,
        )
        .limit(most)
        .subquery()
    )
    row = connection.execute(
        select(func.count().label("many"), func.max(looked.c.wanted).label("wanted")).where(
            looked.c.missing > len(able) - looked.c.had
        )
    ).one()
    if not row.many:
        return None
    return Stall(route, row.many, len(able), row.wanted, more=row.many >= most)
