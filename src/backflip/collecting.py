"""``backflip collect``: the server, and what can be done with a project without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backflip.data.errors import UserError

if TYPE_CHECKING:
    from backflip.collect.simulation import Recovered
    from backflip.feedback.store import Store

PORT = 8700


def collect(  # noqa: PLR0913, PLR0917 (options of a command)
    project: Annotated[
        str | None, typer.Argument(help="Its name: small letters, digits, - and _.")
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
    proxy_secret: Annotated[
        str,
        typer.Option(
            envvar="BACKFLIP_PROXY_SECRET",
            help="Believe a reverse proxy that sends this in X-Backflip-Proxy.",
        ),
    ] = "",
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="To talk with: a folder, or an address."),
    ] = None,
    import_: Annotated[
        str | None, typer.Option("--import", metavar="DATA", help="Add a file's items.")
    ] = None,
    gold: Annotated[bool, typer.Option(help="Imported labels are the right answers.")] = False,
    export: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Write answers: preference, soft, hh, ….")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where --export writes.")] = None,
    simulate: Annotated[
        int | None, typer.Option(metavar="N", help="Let N simulated raters answer.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --simulate.")] = 0,
    backup: Annotated[Path | None, typer.Option(help="Copy the database to this file.")] = None,
    restore: Annotated[Path | None, typer.Option(help="Put a copy in its place.")] = None,
) -> None:
    """Ask people: a server with pages for raters and leads, local unless told otherwise."""
    _check_installed()
    from backflip.feedback.store import open_store

    if restore is not None:
        from backflip.console import say
        from backflip.feedback import backup as copies

        place = store or _place()
        copies.restore(restore, place)
        say(f"{restore} stands in the place of {place}")
        return
    if not any((import_, export, simulate, backup)):
        _serve(project, store, host, port, open_, (tls_cert, tls_key), proxy_secret, policy or [])
        return
    opened = open_store(store)
    try:
        if simulate is not None:
            _simulate(opened, _named(project), simulate, seed)
        if import_ is not None:
            _import(opened, _named(project), import_, gold=gold)
        if export is not None:
            _export(opened, _named(project), export, out)
        if backup is not None:
            from backflip.console import say

            say(f"copied to {opened.backup(backup)}")
    finally:
        opened.close()


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
    if project is None:
        raise UserError("which project? Give its name: backflip collect NAME …")
    return project


def _serve(
    project: str | None,
    store: str | None,
    host: str,
    port: int,
    open_: bool,
    tls: tuple[Path | None, Path | None],
    proxy_secret: str,
    policies: list[str],
) -> None:
    from backflip.collect.serve import Listening, serve
    from backflip.collect.settings import ServerSettings
    from backflip.console import say

    certificate, key = (str(path) if path else "" for path in tls)
    listening = Listening(host, port, certificate, key, behind_proxy=bool(proxy_secret))
    settings = ServerSettings(proxy_secret=proxy_secret, endpoints=_endpoints(policies))

    def ready(address: str) -> None:
        say(f"Open {address}")
        say("This address signs you in once, for ten minutes. Ctrl-C stops the server.", "dim")

    serve(
        project, store=store, listening=listening, settings=settings, open_page=open_, ready=ready
    )


def _endpoints(policies: list[str]) -> tuple[tuple[str, str], ...]:
    found = list[tuple[str, str]]()
    for text in policies:
        name, equals, model = text.partition("=")
        if not (name and equals and model):
            raise UserError(f"{text!r} names no policy. Write --policy NAME=MODEL.")
        found.append((name, model))
    return tuple(found)


def _import(store: Store, project: str, source: str, *, gold: bool) -> None:
    from backflip.console import say
    from backflip.feedback.imports import Wishes, take_in

    for line in take_in(store.project(project), source, Wishes(gold=gold, strict=False)).lines():
        say(line)


def _export(store: Store, project: str, format: str, out: Path | None) -> None:
    from backflip.console import say
    from backflip.feedback.exports import export

    if out is None:
        raise UserError(
            "where to? Give --out FILE, ending in .jsonl, .jsonl.gz, .json or .parquet."
        )
    written = export(store.project(project), format, out)
    for line in written.lines:
        say(line)
    say(f"{written.rows} rows in {written.path}; how they came about: {written.summary}")


def _simulate(store: Store, name: str, raters: int, seed: int) -> None:
    from rich.progress import Progress

    from backflip.collect.simulation import prepared, simulate
    from backflip.console import out as console
    from backflip.console import say

    if raters < 1:
        raise UserError(f"--simulate {raters}: give a number of raters, 1 or more.")
    project = prepared(store, name, raters, seed=seed)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{raters} simulated raters answer", total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = simulate(store, project, raters, seed=seed, told=told)
    if found is None:
        say(f"{project.overview().answers} answers; backflip collect {name} shows them")
    else:
        _print_recovered(found, name)


def _print_recovered(found: Recovered, name: str) -> None:
    from backflip.console import say, table

    rows = [(who, f"{true:.0%}", f"{seen:.0%}") for who, true, seen in found.rows]
    table("Reliability", ("rater", "#true", "#found"), rows)
    say(
        f"{found.answers} answers of {found.raters} raters to {found.items} pairs. Reliabilities "
        f"found correlate with the true ones at {found.correlation:.2f}."
    )
    say(
        f"Labels that are right: majority {found.majority_right:.1%}, Dawid-Skene "
        f"{found.labels_right:.1%}."
    )
    say(
        f"Bias gauges whose 95 % interval holds the truth: {found.covered} of {found.gauges} "
        f"({found.covered / max(found.gauges, 1):.0%})."
    )
    say(f"To look at them: backflip collect {name}", "dim")
