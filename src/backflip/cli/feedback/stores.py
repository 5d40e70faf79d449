"""The database behind a command, opened, copied and put back, and the projects in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from backflip.cli.console import say
from backflip.errors import UserError
from backflip.text import counted

if TYPE_CHECKING:
    from backflip.feedback.projects.project import Project
    from backflip.feedback.projects.store import Store

NEEDED = ("fastapi", "sqlalchemy", "nh3")


def check_installed() -> None:
    """Raises UserError where the extra of the feedback server is not installed."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(
            f'the feedback server needs {", ".join(missing)}: pip install "backflip[feedback]"'
        )


@contextmanager
def opened(place: str | None) -> Iterator[Store]:
    """The store at a place, closed at the end. Raises UserError where it cannot be opened."""
    check_installed()
    from backflip.feedback.projects.store import open_store

    store = open_store(place)
    try:
        yield store
    finally:
        store.close()


def named(project: str | None) -> str:
    """The name of a project. Raises UserError where a setting stands in its place, or nothing."""
    if project is None or "=" in project:
        raise UserError("which project? Give its name: backflip collect NAME …")
    return project


def project_of(store: Store, name: str, because: str = "") -> Project:
    """The project. Raises UserError that says how to make one.

    ``because``: why the file that is imported tells of none.
    """
    from backflip.feedback.store.refusals import RefusedError

    try:
        return store.project(name)
    except RefusedError as error:
        raise UserError(
            f"{error} To make it, say what is asked: backflip collect {name} kind=compare …"
            f"{because and f'; and {because}'}"
        ) from error


def settle(store: Store, name: str, words: list[str]) -> None:
    """Make the project by its settings, or change them, and say what that moved."""
    from backflip.feedback.tasks.settings import settings_of
    from backflip.recipes.names import pairs
    from backflip.server.serve import make_project, owner

    given = pairs(words)
    if name not in {project.name for project in store.projects(archived=True)}:
        make_project(store, name, settings_of(given))
        say(f"made the project {name}: {given.get('kind')}")
        return
    project = store.project(name)
    before = project.settings.model_dump(mode="json")
    if given.get("kind", before["kind"]) != before["kind"]:
        raise UserError(f"{name} is of kind {before['kind']}, which stays. Make another project.")
    was, settled = project.rubric_version, project.newest_event()
    version = project.configure(settings_of(before | given), by=owner(store).id)
    same = "; what raters read stays as it was" if version == was else ""
    say(f"{name}: version {version} of the rubric{same}")
    for event in project.events(after=settled, kinds=["settled anew"]):
        for moved, count in event.body.items():
            say(f"what is done, by the new settings: {moved}: {counted(count, 'item')}")


def say_stalls(store: Store, name: str | None) -> None:
    """Warn of stalled items of one project or all: nobody waits for what cannot come."""
    for project in store.projects():
        for stalled in project.stalls() if name in (None, project.name) else ():
            advice = "invite some, or set raters_per_item lower"
            say(f"{project.name}: {stalled}; {advice}", "yellow")


def back_up(store: Store, to: Path, files: Path | None) -> None:
    """Copy the database, and the clips beside it."""
    from backflip.server.base import backup_files

    say(f"copied to {' and '.join(map(str, backup_files.backup(store, to, files)))}")


def put_back(copy: Path, place: str | None, files: Path | None) -> None:
    """Put a copy in the place of the database; what was there is kept beside it."""
    check_installed()
    from backflip.server.base import backup_files

    place = place or os.environ.get("BACKFLIP_FEEDBACK") or "feedback.sqlite"
    made, former = backup_files.restore(copy, place, files)
    stand = "stand" if made[1:] else "stands"
    say(f"{' and '.join(map(str, made))} {stand} in the place of {place}")
    if former:
        say(f"what was there lies in {' and '.join(map(str, former))}")
