"""A project: settings with versions, and everything that is done in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select, update

from backflip.feedback.kinds.fields import Payload
from backflip.feedback.projects import administration as upkeep
from backflip.feedback.projects import flags, members, reading
from backflip.feedback.projects.administration import Overview
from backflip.feedback.projects.members import Membership
from backflip.feedback.rating import allocation, answering, items, own_work, stalls
from backflip.feedback.rating import rater_actions as asides
from backflip.feedback.rating.allocation import Assignment
from backflip.feedback.rating.answering import Given, Receipt
from backflip.feedback.rating.items import Added, Batch, Check, NewItem
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.store import events, tallies
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.queues import WORK, Purpose
from backflip.feedback.store.schema import Projects, Rubrics
from backflip.feedback.store.scope import Member, Scope
from backflip.feedback.tasks.settings import ProjectSettings, settings_of


class Project:
    """What people are asked, and what they said. Safe to use from many threads."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @property
    def name(self) -> str:
        return self.scope.name

    @property
    def id(self) -> int:
        return self.scope.id

    @property
    def settings(self) -> ProjectSettings:
        """As they are now."""
        with self.scope.database.read() as connection:
            return self.scope.settings(connection)

    @property
    def rubric_version(self) -> int:
        """How often what raters read was changed; the first version is 1."""
        with self.scope.database.read() as connection:
            return self.scope.version(connection)

    @property
    def archived(self) -> bool:
        """Whether the project is put away."""
        query = select(Projects.archived).where(Projects.id == self.id)
        with self.scope.database.read() as connection:
            return bool(connection.scalar(query))

    def rubrics(self) -> list[tuple[int, float, ProjectSettings]]:
        """Every version: its number, when it was made (Unix seconds), and the settings."""
        query = (
            select(Rubrics.version, Rubrics.created, Rubrics.settings)
            .where(Rubrics.project_id == self.id)
            .order_by(Rubrics.version)
        )
        with self.scope.database.read() as connection:
            return [(v, at, settings_of(kept)) for v, at, kept in connection.execute(query)]

    def configure(
        self, settings: ProjectSettings | dict[str, Any], *, by: int | None = None
    ) -> int:
        """New settings; the number of the rubric's version, new where raters read something new."""
        return upkeep.configure(self.scope, settings_of(settings), by)

    def archive(self, *, archived: bool = True, by: int | None = None) -> None:
        """Put the project away, or take it out again. Nothing is ever deleted."""
        with self.scope.database.write() as connection:
            connection.execute(
                update(Projects).where(Projects.id == self.id).values(archived=archived)
            )
            body = {"archived": archived}
            new = NewEvent("archived", by, body=body)
            events.append(connection, self.scope.database, self.id, new)

    # Items

    def add_items(
        self,
        payloads: Iterable[Payload | dict[str, Any] | NewItem],
        *,
        origin: str = "given",
        priority: float | int = 0.0,
        gold: Iterable[dict[str, Any] | None] | None = None,
        batch: str = "",
        purpose: Purpose | None = None,
        route: str = "",
        strict: bool = True,
        check: Check | None = None,
    ) -> Added:
        """Store items, each once (``items.Batch`` says what the arguments mean)."""
        common = Batch(origin, priority, batch, purpose, route, strict, check)
        return items.add(self.scope, payloads, gold, common)

    def prioritise(
        self,
        priorities: Mapping[int, float | int],
        *,
        origin: str | None = None,
        by: int | None = None,
    ) -> int:
        """New priorities for items that wait, and the arm they belong to; how many changed."""
        return upkeep.prioritise(self.scope, priorities, origin, by)

    def drop(self, item_ids: Sequence[int], *, reason: str = "", by: int | None = None) -> int:
        """Ask these no more. Their answers stay."""
        return upkeep.set_state(self.scope, item_ids, "dropped", reason, by)

    def reopen(self, item_ids: Sequence[int], *, reason: str = "", by: int | None = None) -> int:
        """Ask these again, for at least one answer more."""
        return upkeep.set_state(self.scope, item_ids, "open", reason, by)

    def to_adjudication(
        self, item_ids: Sequence[int], *, reason: str = "", by: int | None = None
    ) -> int:
        """Let an adjudicator decide."""
        return upkeep.set_state(self.scope, item_ids, "adjudicate", reason, by)

    def settle_flags(
        self,
        item_id: int,
        *,
        keep: bool,
        warning: str | None = None,
        reason: str = "",
        by: int | None = None,
    ) -> None:
        """Be done with what raters flagged: keep or drop it (``flags.settle``)."""
        flags.settle(self.scope, item_id, keep=keep, warning=warning, reason=reason, by=by)

    def warn(self, item_id: int, warning: str, *, by: int | None = None) -> None:
        """Put a content warning before an item, or (empty) take it away."""
        flags.warn(self.scope, item_id, warning, by=by)

    def flagged(self) -> int:
        """How many items have flags that nobody has settled."""
        return flags.waiting(self.scope)

    # Raters

    def next(
        self, person: int, *, count: int = 1, queue: str = WORK, hold: Sequence[int] = ()
    ) -> list[Assignment]:
        """Items for a rater: first what they hold already, apart from ``hold``, then new ones.

        ``queue``: work, adjudicate, or golden (the last two for seniors).
        """
        return allocation.next_items(self.scope, person, count=count, queue=queue, hold=hold)

    def answer(
        self,
        person: int,
        item_id: int,
        value: Mapping[str, Any],
        *,
        seconds: float | int | None = None,
        client_key: str | None = None,
        hold: Sequence[int] = (),
        queue: str = WORK,
    ) -> Receipt:
        """Store an answer as displayed; ``client_key`` makes sending it again harmless.

        ``hold``: other items that the page has already, so that ``Receipt.next`` is none of them.
        """
        given = Given(item_id, value, seconds, client_key)
        return answering.answer(self.scope, person, given, hold=hold, queue=queue)

    def skip(
        self, person: int, item_id: int, *, reason: str = "", client_key: str | None = None
    ) -> int:
        """Give an item back without an answer. Returns the event's number, as the next three do."""
        return asides.skip(self.scope, person, item_id, reason=reason, client_key=client_key)

    def flag(
        self, person: int, item_id: int, *, reason: str = "", client_key: str | None = None
    ) -> int:
        """Tell the lead that something is wrong with an item."""
        return asides.flag(self.scope, person, item_id, reason=reason, client_key=client_key)

    def note(self, person: int, item_id: int, text: str, *, client_key: str | None = None) -> int:
        """Keep a remark beside an item."""
        return asides.note(self.scope, person, item_id, words=text, client_key=client_key)

    def undo(self, person: int, *, client_key: str | None = None) -> Assignment:
        """Take back the rater's newest answer; its item comes back in the same order."""
        return asides.undo(self.scope, person, client_key=client_key)

    def holds(self, person: int, item_id: int, *, ever: bool = False) -> bool:
        """Whether an item lies before this rater now; ``ever``: or did before."""
        return reading.holds(self.scope, person, item_id, ever=ever)

    def log_refusal(self, person: int, item_id: int) -> None:
        """Write down that somebody asked for an item that is not theirs."""
        answering.log_refusal(self.scope, person, item_id)

    def why_nothing(self, person: int, *, queue: str = WORK) -> str:
        """Why ``next`` has nothing for a rater, in words for them; empty where it may have."""
        return upkeep.why_nothing(self.scope, person, queue)

    def own_answers(
        self, person: int, *, words: str = "", before: int = 0, limit: int = 50
    ) -> list[own_work.OwnAnswer]:
        """A rater's own answers as they gave them, the newest first (``own_work``)."""
        return own_work.own_answers(self.scope, person, words=words, before=before, limit=limit)

    def own_progress(self, person: int) -> own_work.OwnProgress:
        """How far a rater is: today, in all, and what is left for them."""
        return own_work.own_progress(self.scope, person)

    # Members

    def enrol(
        self,
        person: int,
        *,
        role: str = "rater",
        groups: Mapping[str, str] | None = None,
        by: int | None = None,
    ) -> None:
        """Let a person in, or give a member another role and other groups."""
        members.enrol(self.scope, person, role=role, groups=groups, by=by)

    def member(self, person: int) -> Member | None:
        """A person's role, state and settings here; none for strangers."""
        return members.standing(self.scope, person)

    def members(self) -> list[Membership]:
        return members.everybody(self.scope)

    def set_state(
        self, person: int, state: str, *, reason: str = "", by: int | None = None
    ) -> None:
        """Pause or remove a member, or let them back in."""
        members.set_state(self.scope, person, state, reason=reason, by=by)

    def set_reliabilities(self, estimates: Mapping[int, float | int]) -> None:
        """P(right) of raters as the statistics see it, for the dynamic overlap."""
        members.set_reliabilities(self.scope, estimates)

    def learn_reliabilities(self) -> dict[int, float]:
        """Estimate P(right) of everybody who has judged, and let the dynamic overlap go by it.

        A fit over all judgements: a job, not a page.
        """
        found = reading.reliabilities(self.scope)
        self.set_reliabilities(found)
        return found

    def invite(
        self,
        *,
        role: str = "rater",
        groups: Mapping[str, str] | None = None,
        uses: int = 1,
        days: float | int = 14,
        by: int | None = None,
    ) -> str:
        """The secret of a link that lets people in."""
        return members.invite(self.scope, role=role, groups=groups, uses=uses, days=days, by=by)

    def invitations(self) -> list[dict[str, Any]]:
        return members.invitations(self.scope)

    def withdraw(self, key: str, *, by: int | None = None) -> None:
        """Make an invitation worthless."""
        members.withdraw(self.scope, key, by=by)

    # Reading

    def judgements(self, *, until: int | None = None, part: str = "") -> Judgements:
        """All judgements, or those up to an event, for the statistics (``reading.judgements``)."""
        return reading.judgements(self.scope, until=until, part=part)

    def answers(
        self, *, until: int | None = None, after: int = 0, items: Sequence[int] | None = None
    ) -> Iterator[reading.AnswerRow]:
        """Answers that were not taken back, in order."""
        return reading.answers(self.scope, until=until, after=after, items=items)

    def items(
        self,
        *,
        state: str | None = None,
        batch: str | None = None,
        purpose: str | None = None,
        flagged: bool = False,
        ids: Sequence[int] | None = None,
        text: str = "",
        after: int = 0,
        newest: bool = False,
        limit: int = 100,
    ) -> list[reading.ItemRow]:
        """A page of items in the order of their numbers, or (``newest``) from the end.

        ``after``: the number with which the page before it ended; 0: the first page.
        """
        which = reading.Which(state, batch, purpose, flagged, ids, text)
        return reading.items(self.scope, which, after=after, newest=newest, limit=limit)

    def item(self, item_id: int) -> reading.ItemRow:
        """One item. Raises RefusedError where the project has none of this number."""
        return reading.item(self.scope, item_id)

    def events(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        kinds: Sequence[str] = (),
        item: int | None = None,
        newest: bool = False,
        limit: int = 1000,
    ) -> list[events.Event]:
        """The log after an event number, in order, or (``newest``) from the end."""
        return events.read(
            self.scope.database,
            project=self.id,
            after=after,
            until=until,
            kinds=kinds,
            item=item,
            newest=newest,
            limit=limit,
        )

    def newest_event(self) -> int:
        """The number that pins the present state."""
        with self.scope.database.read() as connection:
            return events.newest(connection, self.id)

    def tallies(self, person: int | None = None) -> dict[str, float]:
        """The project's counts, or a rater's (names in ``feedback/tallies.py``)."""
        with self.scope.database.read() as connection:
            return tallies.read(connection, self.id, person or tallies.PROJECT)

    def tallies_by_person(self) -> dict[int, dict[str, float]]:
        with self.scope.database.read() as connection:
            return tallies.by_person(connection, self.id)

    def stalls(self, *, glance: bool = False) -> list[str]:
        """What waits for raters who do not exist, a sentence each (``stalls.stalls``)."""
        most = stalls.GLANCE if glance else stalls.MOST
        return [one.in_words() for one in stalls.stalls(self.scope, most)]

    def overview(self) -> Overview:
        """Progress, budget and forecast, from counts alone."""
        return upkeep.overview(self.scope)
