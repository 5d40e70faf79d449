"""``backflip show``, and what a run or a sweep came to."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from backflip.cli import complete as completing
from backflip.cli import console
from backflip.cli.console import notes, say, table
from backflip.errors import UserError
from backflip.monitor.log import check_any_run
from backflip.text import percent

if TYPE_CHECKING:
    from backflip.api import Run

EXAMPLES, LETTERS = 3, 300
"""Held-out prompts that are shown at the end of a run, and how much of each text."""


def show(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of one run, or of several.", autocompletion=completing.runs),
    ],
    live: Annotated[bool, typer.Option("--live", help="Follow a running run.")] = False,
    port: Annotated[int, typer.Option(help="Port of --live on this machine.")] = 8600,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write the report of a run, compare several, or follow a running one."""
    if live:
        if len(runs) > 1:
            raise UserError(f"--live follows one run, and {len(runs)} were given.")
        follow(runs[0], port, browser=open_)
        return
    print_runs(runs, browser=open_)


def print_result(run: Run) -> None:
    """Results of a run, and the commands to go on with."""
    from backflip.monitor.folder import read_run
    from backflip.monitor.report import sentences
    from backflip.monitor.views import view_of

    read = read_run(run.folder)
    _print_tables(read)
    for sentence in sentences(read):
        say(sentence)
    _print_examples(read)
    say(f"model   {run.model}")
    say(f"report  {run.report}")
    if read.stages and view_of(read.stages[-1].name).speaks:
        say(f"try it  backflip chat {run.folder}")


def _print_examples(run: Any) -> None:
    """A few held-out prompts, answered before and after, beside the answer of the data."""
    said = run.find("examples")[1]
    for example in (said or [])[:EXAMPLES]:
        made = Table.grid(padding=(0, 1))
        made.add_column(style="dim", no_wrap=True)
        made.add_column(overflow="fold")
        for name in ("prompt", "before", "after", "reference"):
            if isinstance(text := example.get(name), str):
                cut = text if len(text) <= LETTERS else f"{text[:LETTERS]} …"
                shown = "".join(c if c.isprintable() or c == "\n" else "�" for c in cut)
                made.add_row(name, Text(shown, style="bold" if name == "prompt" else ""))
        console.out.print(made)


def _print_tables(run: Any) -> None:
    """Row by row what a stage came to, where it goes by rounds."""
    from backflip.monitor.views import view_of

    for stage in run.stages:
        if made := view_of(stage.name).table(stage):
            table("", *made)


def print_sweep(folder: Path) -> None:
    """Results of every run of a sweep, and the page that compares them."""
    from backflip.monitor.report import write_comparison
    from backflip.monitor.text import KL_BY_ANSWERS
    from backflip.recipes.sweep import results

    found = results(folder)
    rows = [(point.name, *_sweep_row(summary)) for point, summary in found]
    head = ["run", "#held-out accuracy", "#95 % interval", "#KL, nats", "#length, tokens"]
    table("", head, rows)
    if any("kl_after" in summary for _, summary in found):
        say(f"KL, nats: {KL_BY_ANSWERS} that each policy wrote, to the reference")
    notes(_about_sweep([summary for _, summary in found]))
    if found and isinstance(base := found[0][1].get("baseline_longer"), float):
        say(f"the longer reply wins {percent(base, 1)}, the shorter one {percent(1 - base, 1)}")
    page = write_comparison([folder / point.name for point, _ in found], folder / "compare.html")
    say(f"report  {page}")


def _sweep_row(summary: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Accuracy, its interval, KL and length; a dash for what was not measured."""
    from backflip.monitor.text import apart, estimate, measured, share_ranged

    accuracy = measured(summary)
    kl, length = (estimate(summary, f"{name}_after") for name in ("kl", "length"))
    value, ends = ("—", "—") if accuracy is None else share_ranged(accuracy)
    return (
        value,
        ends or "—",
        "—" if kl is None else apart([kl.value], digits=2)[0],
        "—" if length is None else f"{length.value:.0f}",
    )


def _about_sweep(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether the runs can be told apart by their accuracy."""
    from backflip.monitor.text import TOO_FEW, measured, standing

    found = [one for one in map(measured, summaries) if one is not None]
    if len(found) < 2:
        return []
    if doubts := [one for one in found if not one.enough]:
        on = standing(doubts[0].units, "held-out prompt")
        return [f"{on + ': ' if on else ''}{TOO_FEW} the runs apart."]
    if max(one.low for one in found) <= min(one.high for one in found):
        return ["All intervals overlap: the order of these runs may be chance."]
    return []


def print_runs(folders: Sequence[Path], *, browser: bool) -> None:
    """A table of the runs, and the page that shows them."""
    for folder in folders:
        check_any_run(folder)  # said before anything heavy is imported
    from backflip.monitor.folder import read_run

    runs = [(str(folder), read_run(folder)) for folder in folders]
    from backflip.monitor import report
    from backflip.monitor.paired import paired_sentences

    table("", *report.table(runs))
    if len(runs) == 1:
        _print_tables(runs[0][1])
        for sentence in report.sentences(runs[0][1]):
            say(sentence)
        page = report.write_report(folders[0])
    else:
        for sentence in paired_sentences(runs):
            say(sentence)
        page = report.write_comparison(folders, folders[0].resolve().parent / "compare.html")
    say(f"report  {page}")
    if browser:
        webbrowser.open(page.resolve().as_uri())


def follow(folder: Path, port: int, *, browser: bool) -> None:
    """Serve a page that follows a running run, until Ctrl-C."""
    check_any_run(folder)
    from backflip.monitor.folder import read_run

    read_run(folder)
    from backflip.monitor.live import serve

    def ready(address: str) -> None:
        say(f"following {folder} at {address}   (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)

    serve(folder, port, ready=ready)
