"""The projects of a database: made, found by name, listed."""

from __future__ import annotations

import secrets
import unicodedata

from sqlalchemy import Connection, insert, select

from backflip.errors import UserError
from backflip.feedback.projects.project import Project
from backflip.feedback.store import events
from backflip.feedback.store.database import Database
from backflip.feedback.store.events import NewEvent
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.store.schema import Projects, Rubrics
from backflip.feedback.store.wording import project_name
from backflip.feedback.tasks.examples import with_examples
from backflip.feedback.tasks.settings import ProjectSettings

LISTED = 10
"""Names of other projects that a message shows."""


def create(database: Database, name: str, settings: ProjectSettings, *, salt: str = "") -> Project:
    """A new project, with the first version of its rubric.

    ``salt`` is part of every seed of the project: secret unless given, for tests and simulations.
    """
    kept_as = project_name(name)
    if kept_as is None:
        raise UserError(
            f"{name!r} cannot be a project's name: use small letters of any script, digits, - and "
            "_, 63 of them at most. The title may be anything."
        )
    name = kept_as
    kept = with_examples(settings).model_dump(mode="json")

    def work(connection: Connection) -> int:
        if connection.scalar(select(Projects.id).where(Projects.name == name)):
            raise RefusedError("conflict", f"there is a project {name!r} already.")
        project = connection.execute(
            insert(Projects)
            .values(
                name=name,
                settings=kept,
                rubric_version=1,
                created=database.now(),
                salt=salt or secrets.token_hex(16),
            )
            .returning(Projects.id)
        ).scalar_one()
        row = {"project_id": project, "version": 1, "settings": kept, "created": database.now()}
        connection.execute(insert(Rubrics), row)
        new = NewEvent("project", body={"name": name, "settings": kept}, version=1)
        events.append(connection, database, project, new)
        return project

    return Project(ProjectRef(database, database.transact(work), name))


def find(database: Database, name: str) -> Project:
    """A project by name. Raises RefusedError, with the names that there are."""
    name = unicodedata.normalize("NFC", name)
    with database.read() as connection:
        project = connection.scalar(select(Projects.id).where(Projects.name == name))
        if project is not None:
            return Project(ProjectRef(database, project, name))
        known = connection.scalars(select(Projects.name).order_by(Projects.name)).all()
    listed = ", ".join(known[:LISTED])
    if known[LISTED:]:
        listed += f" and {len(known) - LISTED} more"
    raise RefusedError(
        "not_found", f"there is no project {name!r}; there are {listed or 'none yet'}."
    )


def everything(database: Database, *, archived: bool) -> list[Project]:
    """All projects by name; those put away only if asked for."""
    query = select(Projects.id, Projects.name).order_by(Projects.name)
    if not archived:
        query = query.where(Projects.archived.is_(False))
    with database.read() as connection:
        return [
            Project(ProjectRef(database, row.id, row.name)) for row in connection.execute(query)
        ]
