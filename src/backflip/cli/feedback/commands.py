"""``backflip feedback``: a command for the server, and one for each thing done without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backflip.cli.arguments import ungrouped
from backflip.cli.feedback import rows
from backflip.cli.feedback.options import (
    NAME,
    Beside,
    Folder,
    Network,
    Place,
    Project,
    Reading,
    Rows,
    Settings,
)
from backflip.cli.feedback.rehearse import plan, rehearse
from backflip.cli.feedback.server import run_server
from backflip.cli.feedback.stores import back_up, named, opened, put_back, say_stalls, settle

if TYPE_CHECKING:
    from backflip.feedback.projects.store import Store

feedback = typer.Typer(
    no_args_is_help=True,
    help="Ask people: the server, and what is done with a project without it.",
)
Seed = Annotated[int, typer.Option(help="Decides what is answered.")]


@contextmanager
def _with(project: str | None, settings: list[str] | None, place: str | None) -> Iterator[Store]:
    """The store, its project as the settings say; at the end, what stands still."""
    with opened(place) as store:
        if settings:
            settle(store, named(project), settings)
        yield store
        say_stalls(store, project)


@feedback.command()
@ungrouped
def serve(
    project: Annotated[str | None, NAME] = None,
    settings: Settings = None,
    store: Place = None,
    *,
    network: Network,
    beside: Beside,
) -> None:
    """Run the server with pages for raters and leads, local unless told otherwise."""
    with _with(project, settings, store):
        pass
    run_server(project, store, network, beside)


@feedback.command("import")
@ungrouped
def import_(
    project: Project,
    data: Annotated[str, typer.Argument(help="A file, a folder, a hub name, demo:….")],
    settings: Settings = None,
    store: Place = None,
    *,
    beside: Beside,
    reading: Reading,
    seed: Seed = 0,
) -> None:
    """Add rows as items: as they are, or prompts with replies that --answers writes."""
    with _with(project, settings, store) as there:
        rows.bring(there, named(project), data, reading, beside, seed=seed)


@feedback.command()
@ungrouped
def export(
    project: Project,
    format: Annotated[str, typer.Argument(help="preference, soft, hh, ….")],
    out: Annotated[
        Path | None, typer.Option(help="The file: .jsonl, .json, .parquet, .csv.")
    ] = None,
    *,
    wanted: Rows,
    store: Place = None,
) -> None:
    """Write what people answered as rows to learn from."""
    with _with(project, None, store) as there:
        rows.write_out(there, named(project), format, out, wanted)


@feedback.command()
def simulate(
    project: Project,
    raters: Annotated[int, typer.Argument(help="How many.", min=1)],
    settings: Settings = None,
    store: Place = None,
    seed: Seed = 0,
) -> None:
    """Let simulated raters answer, and say whether the statistics find the truth."""
    with _with(project, settings, store) as there:
        rehearse(there, named(project), raters, seed)


@feedback.command()
def power(
    accuracy: Annotated[float, typer.Argument(help="Share of pairs that a model is right on.")],
    project: Annotated[
        str | None, typer.Argument(help="Of whose raters; without it, of assumed ones.")
    ] = None,
    assumptions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="reliability=0.8, ceiling=0.9 ….", show_default=False
        ),
    ] = None,
    store: Place = None,
) -> None:
    """Tell how many raters and items a reward model of this accuracy needs."""
    plan(accuracy, project, assumptions or [], store)


@feedback.command()
def ask(
    project: Project,
    strategy: Annotated[
        str,
        typer.Argument(
            help="information, disagreement, uncertainty, best_against_worst, diversity, random."
        ),
    ],
    judge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="A reward model that estimates; again for another: an ensemble."
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Items that are chosen.")] = rows.CHOSEN,
    store: Place = None,
) -> None:
    """Choose what is asked next."""
    with _with(project, None, store) as there:
        rows.ask(there, named(project), strategy, judge, count)


@feedback.command()
def backup(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    store: Place = None,
    files: Folder = None,
) -> None:
    """Copy the database to a file, its clips beside."""
    with _with(None, None, store) as there:
        back_up(there, to, files)


@feedback.command()
def restore(
    copy: Annotated[Path, typer.Argument(metavar="FILE", help="What a backup wrote.")],
    store: Place = None,
    files: Folder = None,
) -> None:
    """Put a copy in the place of the database; what was there is kept."""
    put_back(copy, store, files)
