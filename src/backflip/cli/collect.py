"""``backflip collect``: the server, and what can be done with a project without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backflip.cli.imports import bring, endpoints, project_of
from backflip.cli.rehearse import plan, rehearse
from backflip.errors import UserError
from backflip.text import counted

if TYPE_CHECKING:
    from backflip.feedback.projects.store import Store
    from backflip.server.base.settings import ServerSettings
    from backflip.server.serve import Listening

PORT = 8700


def collect(  # noqa: PLR0913, PLR0917 (options of a command)
    project: Annotated[
        str | None, typer.Argument(help="Its name: small letters of any script, digits, - and _.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="What is asked: kind=compare, raters_per_item=3, scale=8 …; makes the project, "
            "or changes it.",
            show_default=False,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="The database: a path, sqlite:///… or postgresql://…; "
            "else $BACKFLIP_FEEDBACK or feedback.sqlite."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = PORT,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page.")] = True,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, for https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    without_tls: Annotated[
        bool,
        typer.Option(
            help="Let other machines in without https: in a container, or in a network of your own."
        ),
    ] = False,
    public_url: Annotated[
        str,
        typer.Option(
            metavar="https://NAME",
            envvar="BACKFLIP_PUBLIC_URL",
            help="Where a reverse proxy shows the server: its name in links, and Secure cookies.",
        ),
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name that the server answers to."),
    ] = None,
    proxy_secret: Annotated[
        str,
        typer.Option(
            envvar="BACKFLIP_PROXY_SECRET",
            help="Believe a reverse proxy that sends this in X-Backflip-Proxy.",
        ),
    ] = "",
    files: Annotated[
        Path | None,
        typer.Option(
            help="The folder of clips, trained models and logs; else NAME-files beside the "
            "database NAME.sqlite.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="To talk with: a folder, or an address."),
    ] = None,
    import_: Annotated[
        str | None, typer.Option("--import", metavar="DATA", help="Add a file's items.")
    ] = None,
    gold: Annotated[bool, typer.Option(help="Imported labels are the right answers.")] = False,
    answers: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Who answers the imported prompts; again for another."),
    ] = None,
    temperature: Annotated[
        list[float] | None, typer.Option(help="At which --answers does; again for another.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest reply of --answers.")] = 256,
    limit: Annotated[int | None, typer.Option(help="Rows to import at most.")] = None,
    export: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Write answers: preference, soft, hh, ….")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where --export writes: .jsonl, .json, .parquet, .csv.")
    ] = None,
    per: Annotated[
        str | None, typer.Option(help="A row for each item (aggregated), or for each answer.")
    ] = None,
    golden: Annotated[bool, typer.Option(help="Export what seniors keep for probes.")] = False,
    simulate: Annotated[
        int | None, typer.Option(metavar="N", help="Let N simulated raters answer.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --simulate and --answers.")] = 0,
    power: Annotated[
        float | None,
        typer.Option(
            metavar="ACCURACY",
            help="Tell how many raters and items a reward model of this accuracy needs; "
            "KEY=VALUE are assumptions: reliability=0.8, ceiling=0.9 ….",
        ),
    ] = None,
    ask: Annotated[
        str | None,
        typer.Option(
            metavar="STRATEGY",
            help="Choose what is asked next: information, disagreement, uncertainty, "
            "best_against_worst, diversity or random.",
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A reward model that estimates for --ask; again for another: an ensemble.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Items that --ask chooses.")] = 200,
    backup: Annotated[
        Path | None, typer.Option(help="Copy the database to this file, its clips beside.")
    ] = None,
    restore: Annotated[Path | None, typer.Option(help="Put a copy in its place.")] = None,
) -> None:
    """Ask people: a server with pages for raters and leads, local unless told otherwise."""
    _check_installed()
    if power is not None:
        _power(power, project, settings or [], store)
        return
    from backflip.feedback.projects.store import open_store

    if restore is not None:
        _restore(restore, store or _place(), files)
        return
    if answers and import_ is None:
        raise UserError("which prompts? Give them with --import.")
    if gold and import_ is None:
        raise UserError("which labels are right? Give their file with --import.")
    who = (answers or [], temperature or [], max_tokens)
    chores: list[tuple[Any, Callable[[Store, str], None]]] = [
        (settings or None, lambda s, name: _settle(s, name, settings or [])),
        (
            import_,
            lambda s, name: bring(
                s, name, import_ or "", who, limit, seed, gold=gold, here=(files, policy or [])
            ),
        ),
        (simulate, lambda s, name: rehearse(s, name, simulate or 0, seed)),
        (ask, lambda s, name: _ask(s, name, ask or "", judge or [], count)),
        (export, lambda s, name: _export(s, name, export or "", out, per, golden=golden)),
    ]
    opened = open_store(store)
    try:
        for wanted, chore in chores:
            if wanted is not None:
                chore(opened, _named(project))
        _say_stalls(opened, project)
        if backup is not None:
            _backup(opened, backup, files)
    finally:
        opened.close()
    if import_ is export is simulate is ask is backup is None:
        from backflip.server.base.settings import ServerSettings

        listening = _listening(host, port, (tls_cert, tls_key), bool(proxy_secret), without_tls)
        served = ServerSettings(
            folder=files,
            allowed=tuple(allow_host or ()),
            public_url=public_url,
            proxy_secret=proxy_secret,
            endpoints=endpoints(policy or []),
        )
        _serve(project, store, listening, served, open_)


def _say_stalls(store: Store, name: str | None) -> None:
    """What stands still, in one project or in all, so that nobody waits for what cannot come."""
    from backflip.cli.console import say

    for project in store.projects():
        for stalled in project.stalls() if name in (None, project.name) else ():
            advice = "invite some, or set raters_per_item lower"
            say(f"{project.name}: {stalled}; {advice}", "yellow")


def _check_installed() -> None:
    import importlib.util

    missing = [n for n in ("fastapi", "sqlalchemy", "nh3") if importlib.util.find_spec(n) is None]
    if missing:
        raise UserError(
            f'the feedback server needs {", ".join(missing)}: pip install "backflip[feedback]"'
        )


def _place() -> str:
    import os

    return os.environ.get("BACKFLIP_FEEDBACK") or "feedback.sqlite"


def _named(project: str | None) -> str:
    if project is None or "=" in project:
        raise UserError("which project? Give its name: backflip collect NAME …")
    return project


def _listening(
    host: str,
    port: int,
    tls: tuple[Path | None, Path | None],
    behind_proxy: bool,
    without_tls: bool,
) -> Listening:
    from backflip.server.serve import Listening

    certificate, key = (str(path) if path else "" for path in tls)
    return Listening(host, port, certificate, key, behind_proxy, without_tls)


def _serve(
    project: str | None,
    store: str | None,
    listening: Listening,
    settings: ServerSettings,
    open_page: bool,
) -> None:
    import logging

    from backflip.cli.console import say
    from backflip.server.serve import serve

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S %z")

    def ready(address: str) -> None:
        say(f"Open {address}")
        say("This address signs you in once, for ten minutes. Ctrl-C stops the server.", "dim")

    serve(
        project,
        store=store,
        listening=listening,
        settings=settings,
        open_page=open_page,
        ready=ready,
    )


def _backup(store: Store, to: Path, files: Path | None) -> None:
    from backflip.cli.console import say
    from backflip.server.base import backup_files as copies

    say(f"copied to {' and '.join(map(str, copies.backup(store, to, files)))}")


def _restore(copy: Path, place: str, files: Path | None) -> None:
    from backflip.cli.console import say
    from backflip.server.base import backup_files as copies

    made, former = copies.restore(copy, place, files)
    stand = "stand" if made[1:] else "stands"
    say(f"{' and '.join(map(str, made))} {stand} in the place of {place}")
    if former:
        say(f"what was there lies in {' and '.join(map(str, former))}")


def _settle(store: Store, name: str, words: list[str]) -> None:
    """Make the project, or change its settings."""
    from backflip.cli.console import say
    from backflip.feedback.kinds.settings import settings_of
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


def _ask(store: Store, name: str, strategy: str, judges: list[str], count: int) -> None:
    from dataclasses import asdict

    from backflip.cli.console import say
    from backflip.server.work import ask_command as asking

    project = project_of(store, name)
    asking.check(project.settings.kind, strategy)
    screen = {"screen": {}} if project.settings.kind == "compare" else {}
    asked = {"strategy": strategy, "judges": judges, "count": count, **screen}
    for line in asking.in_words(asked, asdict(asking.ask(project, asked))):
        say(line)


def _export(
    store: Store, name: str, format: str, out: Path | None, per: str | None, *, golden: bool
) -> None:
    from backflip.cli.console import say
    from backflip.feedback.exchange.exports import export

    if out is None:
        raise UserError(
            "where to? Give --out FILE, ending in .jsonl, .jsonl.gz, .json, .parquet or .csv."
        )
    if per not in (None, "item", "answer"):
        raise UserError(f"--per {per}: a row is for each item or for each answer.")
    rows: Any = per
    part = "golden" if golden else ""
    written = export(project_of(store, name), format, out, per=rows, part=part)
    for line in written.lines:
        say(line)
    say(f"{counted(written.rows, 'row')} in {written.path}; how they came about: {written.summary}")


def _power(wished: float, project: str | None, words: list[str], place: str | None) -> None:
    from backflip.feedback.projects.store import open_store

    if project is not None and "=" in project:
        project, words = None, [project, *words]
    if project is None:
        plan(wished, words, None)
        return
    opened = open_store(place)
    try:
        plan(wished, words, project_of(opened, project))
    finally:
        opened.close()
