"""``backflip collect --import``: items from files, or from prompts that models answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backflip.errors import UserError

if TYPE_CHECKING:
    from backflip.feedback.projects.project import Project
    from backflip.feedback.projects.store import Store
    from backflip.server.work.drafting import Drafted


def endpoints(policies: list[str]) -> tuple[tuple[str, str], ...]:
    """Policies to talk with, as ``--policy NAME=MODEL`` names them. Raises UserError."""
    found = list[tuple[str, str]]()
    for text in policies:
        name, equals, model = text.partition("=")
        if not (name and equals and model):
            raise UserError(f"{text!r} names no policy. Write --policy NAME=MODEL.")
        found.append((name, model))
    return tuple(found)


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


def _ready(store: Store, name: str, source: str) -> Project:
    """The project; made where a file of answers says what was asked."""
    from backflip.cli.console import say
    from backflip.feedback.exchange.suggest import suggested
    from backflip.server.serve import make_project

    there = {project.name for project in store.projects(archived=True)}
    if name in there:
        return project_of(store, name)
    try:
        settings = suggested(source)
    except UserError as error:
        return project_of(store, name, str(error))
    if settings is not None:
        make_project(store, name, settings)
        say(f"made the project {name}: {settings.kind}, as the answers in {source} are")
    return project_of(store, name)


def bring(
    store: Store,
    name: str,
    source: str,
    who: tuple[list[str], list[float], int],
    limit: int | None,
    seed: int,
    *,
    gold: bool,
    here: tuple[Path | None, list[str]],
) -> None:
    """Items as they are, or prompts that models (the first of ``who``) answer on the spot."""
    from backflip.cli.console import say
    from backflip.feedback.exchange.imports import Wishes, take_in

    project = _ready(store, name, source)
    if who[0]:
        made = _drafted(project, source, who, limit, seed)
    else:
        check = _askable(store, name, here)
        made = take_in(project, source, Wishes(gold=gold, strict=False, limit=limit, check=check))
        if project.settings.kind == "talk" and not here[1]:
            say("policies were not looked for: name those of the server with --policy NAME=MODEL")
    for line in made.lines():
        say(line)


def _askable(store: Store, name: str, here: tuple[Path | None, list[str]]) -> Any:
    """Whether items can be asked here: their clips are among ``--files``, and their policies are
    those of ``--policy``, where it is given.
    """
    from backflip.server.base.askable import askable
    from backflip.server.base.backup_files import files_of
    from backflip.server.base.media import MEDIA, Media

    files, policies = here
    media = Media((files or files_of(store.database.url)) / MEDIA, store.secret("clips"))
    known = dict(endpoints(policies)) if policies else None
    return askable(media, known, name)


def _drafted(
    project: Project,
    source: str,
    who: tuple[list[str], list[float], int],
    limit: int | None,
    seed: int,
) -> Drafted:
    from rich.progress import Progress

    from backflip.cli.console import out
    from backflip.server.work.drafting import authors, draft

    models, temperatures, max_tokens = who
    speakers = authors(models, temperatures, max_tokens=max_tokens)
    with Progress(console=out, transient=True) as bar:
        task = bar.add_task("answering prompts", total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return draft(project, source, speakers, limit=limit, seed=seed, told=told)
