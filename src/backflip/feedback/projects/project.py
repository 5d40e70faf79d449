"""A project: settings with versions, and everything that is done in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select, update

from backflip.feedback.projects import administration, reading
from backflip.feedback.projects.administration import Overview
from backflip.feedback.projects.project_items import ProjectItems
from backflip.feedback.projects.project_members import ProjectMembers
from backflip.feedback.projects.project_raters import ProjectRaters
from backflip.feedback.rating import stalls
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.store import events, tallies
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.schema import Projects, Rubrics
from backflip.feedback.tasks.settings import ProjectSettings, settings_of


class Project(ProjectItems, ProjectRaters, ProjectMembers):
    """Questions to people and their answers. Safe to use from many threads."""

    def __init__(self, ref: ProjectRef) -> None:
        self.ref = ref

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def id(self) -> int:
        return self.ref.id

    @property
    def settings(self) -> ProjectSettings:
        """As they are now."""
        with self.ref.database.read() as connection:
            return self.ref.settings(connection)

    @property
    def rubric_version(self) -> int:
        """How often what raters read was changed; the first version is 1."""
        with self.ref.database.read() as connection:
            return self.ref.version(connection)

    @property
    def archived(self) -> bool:
        """Whether the project is put away."""
        query = select(Projects.archived).where(Projects.id == self.id)
        with self.ref.database.read() as connection:
            return bool(connection.scalar(query))

    def rubrics(self) -> list[tuple[int, float, ProjectSettings]]:
        """Every version: its number, when it was made (Unix seconds), and the settings."""
        query = (
            select(Rubrics.version, Rubrics.created, Rubrics.settings)
            .where(Rubrics.project_id == self.id)
            .order_by(Rubrics.version)
        )
        with self.ref.database.read() as connection:
            return [(v, at, settings_of(kept)) for v, at, kept in connection.execute(query)]

    def configure(
        self, settings: ProjectSettings | dict[str, Any], *, by: int | None = None
    ) -> int:
        """New settings; the number of the rubric's version, new where raters read something new."""
        return administration.configure(self.ref, settings_of(settings), by)

    def archive(self, *, archived: bool = True, by: int | None = None) -> None:
        """Put the project away, or take it out again. Nothing is ever deleted."""
        with self.ref.database.write() as connection:
            connection.execute(
                update(Projects).where(Projects.id == self.id).values(archived=archived)
            )
            body = {"archived": archived}
            new = NewEvent("archived", by, body=body)
            events.append(connection, self.ref.database, self.id, new)

    def judgements(self, *, until: int | None = None, part: str = "") -> Judgements:
        """All judgements, or those up to an event, for the statistics (``reading.judgements``)."""
        return reading.judgements(self.ref, until=until, part=part)

    def answers(
        self, *, until: int | None = None, after: int = 0, items: Sequence[int] | None = None
    ) -> Iterator[reading.AnswerRow]:
        """Answers that were not taken back, in order."""
        return reading.answers(self.ref, until=until, after=after, items=items)

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
            self.ref.database,
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
        with self.ref.database.read() as connection:
            return events.newest(connection, self.id)

    def tallies(self, person: int | None = None) -> dict[str, float]:
        """The project's counts, or a rater's (names in ``store/tallies.py``)."""
        with self.ref.database.read() as connection:
            return tallies.read(connection, self.id, person or tallies.PROJECT)

    def tallies_by_person(self) -> dict[int, dict[str, float]]:
        with self.ref.database.read() as connection:
            return tallies.by_person(connection, self.id)

    def stalls(self, *, glance: bool = False) -> list[str]:
        """Items that wait for raters who do not exist, a sentence each (``stalls.stalls``)."""
        most = stalls.GLANCE if glance else stalls.MOST
        return [one.in_words() for one in stalls.stalls(self.ref, most)]

    def overview(self) -> Overview:
        """Progress, budget and forecast, from counts alone."""
        return administration.overview(self.ref)
