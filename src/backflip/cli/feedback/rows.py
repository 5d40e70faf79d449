"""Rows in and out of a project: items from files or from models' replies, questions, answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backflip.cli import console
from backflip.cli.console import say
from backflip.cli.feedback.server import endpoints
from backflip.cli.feedback.stores import project_of
from backflip.errors import UserError
from backflip.text import counted

if TYPE_CHECKING:
    from backflip.cli.feedback.options import Beside, Reading, Rows
    from backflip.feedback.projects.project import Project
    from backflip.feedback.projects.store import Store
    from backflip.server.work.drafting import Drafted

CHOSEN = 200
"""Items that ``ask`` chooses at most, unless told otherwise."""


def bring(
    store: Store, name: str, source: str, reading: Reading, beside: Beside, *, seed: int
) -> None:
    """Items as they are, or prompts that the models of ``reading`` answer on the spot."""
    from backflip.feedback.exchange.imports import Wishes, take_in
    from backflip.feedback.kinds.registry import kind_of

    project = _ready(store, name, source)
    if reading.answers:
        made = _drafted(project, source, reading, seed)
    else:
        check = _askable(store, name, beside)
        wishes = Wishes(gold=reading.gold, strict=False, limit=reading.limit, check=check)
        made = take_in(project, source, wishes)
        if kind_of(project.settings.kind).live and not beside.policy:
            say("policies were not looked for: name those of the server with --policy NAME=MODEL")
    for line in made.lines():
        say(line)


def _ready(store: Store, name: str, source: str) -> Project:
    """The project; made where a file of answers says what was asked."""
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


def _askable(store: Store, name: str, beside: Beside) -> Any:
    """Whether items can be asked here: their clips are among ``--files``, and their policies are
    those of ``--policy``, where it is given.
    """
    from backflip.server.base.askable import askable
    from backflip.server.base.backup_files import files_of
    from backflip.server.base.media import MEDIA, Media

    folder = (beside.files or files_of(store.database.url)) / MEDIA
    media = Media(folder, store.secret("clips"))
    known = dict(endpoints(beside.policy)) if beside.policy else None
    return askable(media, known, name)


def _drafted(project: Project, source: str, reading: Reading, seed: int) -> Drafted:
    from rich.progress import Progress

    from backflip.server.work.drafting import authors, draft

    temperatures = reading.temperature or []
    speakers = authors(reading.answers or [], temperatures, max_tokens=reading.max_tokens)
    with Progress(console=console.out, transient=True) as bar:
        task = bar.add_task("answering prompts", total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return draft(project, source, speakers, limit=reading.limit, seed=seed, progress=told)


def ask(store: Store, name: str, strategy: str, judges: list[str] | None, count: int) -> None:
    """Choose by a strategy what is asked next, and say what was chosen."""
    from dataclasses import asdict

    from backflip.feedback.kinds.registry import kind_of
    from backflip.server.work import ask_command

    project = project_of(store, name)
    ask_command.check(project.settings.kind, strategy)
    screen = {"screen": {}} if kind_of(project.settings.kind).two_texts else {}
    asked = {"strategy": strategy, "judges": judges or [], "count": count, **screen}
    for line in ask_command.in_words(asked, asdict(ask_command.ask(project, asked))):
        say(line)


def write_out(store: Store, name: str, format: str, out: Path | None, rows: Rows) -> None:
    """Write a project's answers, and say what was counted."""
    from backflip.feedback.exchange.exports import export

    if out is None:
        raise UserError(
            "where to? Give --out FILE, ending in .jsonl, .jsonl.gz, .json, .parquet or .csv."
        )
    if rows.per not in (None, "item", "answer"):
        raise UserError(f"--per {rows.per}: a row is for each item or for each answer.")
    per: Any = rows.per
    part = "golden" if rows.golden else ""
    written = export(project_of(store, name), format, out, per=per, part=part)
    for line in written.lines:
        say(line)
    say(f"{counted(written.rows, 'row')} in {written.path}; how they came about: {written.summary}")
