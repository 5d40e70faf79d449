"""The store of feedback: ``open_store``, its projects and people."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from backflip.feedback.projects import catalogue, members, redaction
from backflip.feedback.projects.identities import Person
from backflip.feedback.projects.members import Invitation
from backflip.feedback.projects.people import Roster
from backflip.feedback.projects.project import Project
from backflip.feedback.store import backup, events
from backflip.feedback.store.database import Clock, Database, connect, insert_into
from backflip.feedback.store.events import Event
from backflip.feedback.store.schema import Secrets
from backflip.feedback.tasks.settings import ProjectSettings, settings_of


class Store:
    """All projects, people and answers of one database. Safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.people = Roster(database)
        """Persons, passwords, tokens."""

    def project(self, name: str) -> Project:
        """A project by its name. Raises RefusedError where there is none."""
        return catalogue.find(self.database, name)

    def create(
        self, name: str, settings: ProjectSettings | dict[str, Any], *, salt: str = ""
    ) -> Project:
        """A new project. ``salt``: what chance hangs on, secret unless given."""
        return catalogue.create(self.database, name, settings_of(settings), salt=salt)

    def projects(self, *, archived: bool = False) -> list[Project]:
        """All projects, by name; those put away only if asked for."""
        return catalogue.everything(self.database, archived=archived)

    def projects_of(self, person: int, *, archived: bool = False) -> dict[str, str]:
        """Names of a person's projects, and their role in each; or of those put away."""
        return members.projects_of(self.database, person, archived=archived)

    def invitation(self, secret: str) -> Invitation:
        """The invitation of a link. Raises RefusedError for one that does not count (any more)."""
        return members.invitation(self.database, secret)

    def accept(self, secret: str, person: int | Mapping[str, str]) -> Person:
        """Use an invitation: a known person, or {name, email, password} of a new one."""
        return members.accept(self.database, secret, person)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """The log of everything, in order."""
        return events.read(self.database, after=after, limit=limit)

    def export_log(self, *, project: Project | None = None, after: int = 0) -> Iterator[str]:
        """The log as lines of JSON, of all projects or one."""
        number = None if project is None else project.id
        return events.export(self.database, project=number, after=after)

    def personal_data(self, person: int) -> dict[str, Any]:
        """Everything that is kept about a person, for them to have."""
        return redaction.personal_data(self.database, person)

    def erase(self, person: int, *, texts: bool = False, by: int | None = None) -> None:
        """Forget who a person is; ``texts``: and what they wrote in their own words."""
        redaction.erase(self.database, person, texts=texts, by=by)

    def backup(self, to: str | Path) -> Path:
        """A copy of the database as it is now, while others go on writing."""
        return backup.backup(self.database, Path(to))

    def secret(self, name: str) -> str:
        """A random secret that is made once and kept: for signing cookies."""
        query = select(Secrets.value).where(Secrets.name == name)
        with self.database.read() as connection:
            kept = connection.scalar(query)
        if kept:
            return kept
        with self.database.write() as connection:
            fresh = {"name": name, "value": secrets.token_urlsafe(48)}
            connection.execute(
                insert_into(Secrets, self.database.embedded).values(fresh).on_conflict_do_nothing()
            )
            return connection.scalars(query).one()

    def check(self) -> None:
        """Raises where the database does not answer: for health checks."""
        with self.database.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self.database.close()


def open_store(url: str | Path | None = None, *, clock: Clock = time.time) -> Store:
    """Open a database, make it if there is none, and bring it to the present schema.

    ``url``: a path, sqlite:///PATH or postgresql://…; none: $BACKFLIP_FEEDBACK, or feedback.sqlite
    in the current folder.
    """
    return Store(connect(url, clock=clock))
