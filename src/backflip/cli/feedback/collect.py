"""``backflip collect``: short for ``backflip feedback``, with an option for each command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backflip.cli.arguments import ungrouped
from backflip.cli.feedback import rows
from backflip.cli.feedback.options import (
    NAME,
    Beside,
    Network,
    Place,
    Reading,
    Rows,
    Settings,
)
from backflip.cli.feedback.rehearse import plan, rehearse
from backflip.cli.feedback.server import run_server
from backflip.cli.feedback.stores import (
    back_up,
    check_installed,
    named,
    opened,
    put_back,
    say_stalls,
    settle,
)
from backflip.errors import UserError

if TYPE_CHECKING:
    from backflip.feedback.projects.store import Store


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The command to carry out, by the options given; without any, the server runs."""

    project: Annotated[str | None, NAME] = None
    settings: Settings = None
    store: Place = None
    network: Network
    beside: Beside
    import_: Annotated[
        str | None, typer.Option("--import", metavar="DATA", help="Add a file's items.")
    ] = None
    reading: Reading
    export: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Write answers: preference, soft, hh, ….")
    ] = None
    out: Annotated[
        Path | None, typer.Option(help="Where --export writes: .jsonl, .json, .parquet, .csv.")
    ] = None
    wanted: Rows
    simulate: Annotated[
        int | None, typer.Option(metavar="N", help="Let N simulated raters answer.")
    ] = None
    seed: Annotated[int, typer.Option(help="Of --simulate and --answers.")] = 0
    power: Annotated[
        float | None,
        typer.Option(
            metavar="ACCURACY",
            help="Tell how many raters and items a reward model of this accuracy needs; "
            "KEY=VALUE are assumptions: reliability=0.8, ceiling=0.9 ….",
        ),
    ] = None
    ask: Annotated[
        str | None,
        typer.Option(
            metavar="STRATEGY",
            help="Choose what is asked next: information, disagreement, uncertainty, "
            "best_against_worst, diversity or random.",
        ),
    ] = None
    judge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A reward model that estimates for --ask; again for another: an ensemble.",
        ),
    ] = None
    count: Annotated[int, typer.Option(help="Items that --ask chooses.")] = rows.CHOSEN
    backup: Annotated[
        Path | None, typer.Option(help="Copy the database to this file, its clips beside.")
    ] = None
    restore: Annotated[Path | None, typer.Option(help="Put a copy in its place.")] = None


@ungrouped
def collect(wishes: Wishes) -> None:
    """Ask people: a server with pages for raters and leads, local unless told otherwise."""
    check_installed()
    if wishes.power is not None:
        plan(wishes.power, wishes.project, wishes.settings or [], wishes.store)
        return
    if wishes.restore is not None:
        put_back(wishes.restore, wishes.store, wishes.beside.files)
        return
    if wishes.reading.answers and wishes.import_ is None:
        raise UserError("which prompts? Give them with --import.")
    if wishes.reading.gold and wishes.import_ is None:
        raise UserError("which labels are right? Give their file with --import.")
    with opened(wishes.store) as store:
        for chore in _chores(wishes):
            chore(store, named(wishes.project))
        say_stalls(store, wishes.project)
        if wishes.backup is not None:
            back_up(store, wishes.backup, wishes.beside.files)
    others = (wishes.import_, wishes.export, wishes.simulate, wishes.ask, wishes.backup)
    if others == (None,) * len(others):
        run_server(wishes.project, wishes.store, wishes.network, wishes.beside)


def _chores(wishes: Wishes) -> list[Callable[[Store, str], None]]:
    """Commands that were asked for, in order, each to the store and a project."""
    seed, count = wishes.seed, wishes.count
    found: list[Callable[[Store, str], None]] = []
    if settings := wishes.settings:
        found.append(lambda store, name: settle(store, name, settings))
    if (data := wishes.import_) is not None:
        found.append(
            lambda store, name: rows.bring(
                store, name, data, wishes.reading, wishes.beside, seed=seed
            )
        )
    if (raters := wishes.simulate) is not None:
        found.append(lambda store, name: rehearse(store, name, raters, seed))
    if (strategy := wishes.ask) is not None:
        found.append(lambda store, name: rows.ask(store, name, strategy, wishes.judge, count))
    if (form := wishes.export) is not None:
        found.append(
            lambda store, name: rows.write_out(store, name, form, wishes.out, wishes.wanted)
        )
    return found
