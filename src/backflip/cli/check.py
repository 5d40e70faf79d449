"""The command ``check``: a look at data or at a recipe before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from backflip.cli import complete as completing
from backflip.cli import console
from backflip.cli.arguments import Format, Limit, MaxLength, ungrouped
from backflip.cli.console import notes, say, table
from backflip.errors import UserError
from backflip.text import about, counted, duration, lasting, magnitude, millions, percent

if TYPE_CHECKING:
    from backflip.cluster.forecast import Paper, PaperStage
    from backflip.cluster.job import Machines
    from backflip.data.audit import Audit, Finding
    from backflip.data.readings import Reading
    from backflip.recipes.forecast import Forecast
    from backflip.stages.plans import Plan

COLOURS = {"error": "red", "warning": "yellow", "info": ""}
MARKS = ("⟦", "⟧")
"""Marks around tokens that are learnt where there is no colour."""
SHOWN = 0.005
"""Share of a step below which a part is not shown."""
FOLD = 200
"""Letters at either end of a long text that are shown."""


What = Annotated[
    str,
    typer.Argument(
        help="Data (file, folder, hub name, demo:…), or recipe.", autocompletion=completing.checked
    ),
]


@dataclass(frozen=True)
class Elsewhere:
    """Machines for which a recipe is forecast on paper."""

    nodes: Annotated[
        int | None, typer.Option(help="Of a recipe: forecast it on so many machines.")
    ] = None
    devices: Annotated[int | None, typer.Option(help="Devices in each of them.")] = None
    device: Annotated[
        str | None, typer.Option(help="Kind of device: h100, …; cpu is this machine.")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that were given."""
        named = {"nodes": self.nodes, "devices": self.devices, "device": self.device}
        return {name: value for name, value in named.items() if value is not None}


@ungrouped
def check(
    what: What,
    elsewhere: Elsewhere,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Of a recipe: its settings, and price=MONEY of a device per hour. "
            "Of data: kind, format, columns.NAME, limit, streaming, model, template, max_length, "
            "against.",
            show_default=False,
            autocompletion=completing.settings,
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option(help="Run a few steps of a recipe to forecast its time and memory.")
    ] = True,
    format: Format = None,
    limit: Limit = None,
    max_length: MaxLength = None,
) -> None:
    """Look before training: what is wrong with data, or what a recipe will do and cost."""
    from backflip.recipes.names import SUFFIXES, shipped

    options = {"format": format, "limit": limit, "max_length": max_length}
    given = {name: value for name, value in options.items() if value is not None}
    if what in shipped() or what.endswith(SUFFIXES):
        for name, value in given.items():
            word = name.replace("_", "-")
            raise UserError(f"--{word} is for data; of a recipe write data.{name}={value}.")
        _check_recipe(what, settings or [], elsewhere, measure=measure)
    else:
        for name in elsewhere.given:
            raise UserError(f"--{name} is for a recipe, and {what} is data.")
        _check_data(what, settings or [], given)


def _check_data(data: str, settings: Sequence[str], options: Mapping[str, Any]) -> None:
    import inspect

    from backflip import api
    from backflip.recipes import slips
    from backflip.recipes.names import hint, pairs, with_columns

    known = [name for name in inspect.signature(api.check).parameters if name != "data"]
    given = with_columns(pairs(settings)) | dict(options)
    for name in given:
        if name not in known:
            raise UserError(f"unknown setting {name!r} for data. {hint(name, known)}")
    if not isinstance(given.get("streaming", False), bool):
        raise UserError(f"streaming is {given['streaming']!r}; it must be true or false.")
    for name in ("limit", "max_length"):
        if not isinstance(given.get(name), int | None):
            raise UserError(f"{name} is {given[name]!r}; it must be a whole number.")
    for source in (data, given.get("against")):
        if source is not None:
            slips.check_data(str(source))
    slips.check_models(given.get("model"))
    slips.check_reading(data, given)
    print_audit(api.check(data, **given))


def _check_recipe(
    name: str, settings: Sequence[str], elsewhere: Elsewhere, *, measure: bool
) -> None:
    from backflip.recipes import slips

    own = [text for text in settings if not text.startswith("price=")]
    slips.check(name, own)
    from backflip.monitor.progress import shown, starting

    with starting(aside=True):
        from backflip.recipes import forecast
        from backflip.recipes.check import check_recipe
        from backflip.recipes.load import load_recipe
    recipe = load_recipe(name, own)
    price = forecast.price_in(settings)
    with shown(aside=True):
        check_recipe(recipe)
        plans = recipe.plans()
    print_plans(plans)
    print_read(plans)
    notes(recipe.advice())
    if elsewhere.given:
        _forecast_on_paper(recipe, plans, elsewhere, price)
    elif measure:
        say("measuring a few steps …")
        with shown(aside=True):
            found = forecast.forecast(recipe, plans, price=price)
        print_forecast(found)


def _forecast_on_paper(
    recipe: Any, plans: Sequence[Plan], elsewhere: Elsewhere, price: float | None
) -> None:
    from backflip.cluster.devices import device_of
    from backflip.cluster.forecast import on_paper
    from backflip.cluster.job import CPU, Machines

    kind = elsewhere.device or CPU
    alone = 1 if kind.lower() == CPU else 8
    machines = Machines(nodes=elsewhere.nodes or 1, devices=elsewhere.devices or alone, device=kind)
    machines.check()
    found = on_paper(
        recipe, plans, device_of(kind), nodes=machines.nodes, devices=machines.devices, price=price
    )
    print_paper(found, machines)


# ---- data


def print_audit(audit: Audit) -> None:
    """Everything that was counted in a dataset, the worst first."""
    say(
        f"{audit.source}: {counted(audit.total, 'row')}, {audit.kind.lower()}s, format "
        f"{audit.format}"
    )
    if audit.said:
        say(audit.said)
    sizes = [
        (name, *(f"{value:.0f}" for value in values)) for name, values in audit.lengths.items()
    ]
    if sizes:
        table(f"lengths in {audit.unit}", ["", "#mean", "#median", "#90 %", "#longest"], sizes)
    if found := audit.rows():
        console.out.print(Text(f"{'rows':>8} {'share':>9}  found", style="bold"))
    for finding in found:
        _print_finding(finding)
    unusable = f"{audit.errors} of {counted(audit.total, 'row')} cannot be used."
    say(unusable if audit.errors else "All rows can be used.", "red" if audit.errors else "green")
    print_readings(audit.shown)
    if audit.unchecked:
        say(f"not checked: {'; '.join(audit.unchecked)}")


def _print_finding(finding: Finding) -> None:
    """How many rows, what about them, what to do, and the first of them."""
    style = COLOURS[finding.level]
    made = Table(box=None, show_header=False)
    made.add_column(justify="right", width=8)
    made.add_column(justify="right", width=8)
    made.add_column(overflow="fold")
    said = Text(finding.name, style=style)
    made.add_row(Text(f"{finding.count:,}"), Text(percent(finding.share, 1)), said)
    for line in (finding.advice, *finding.examples):
        if line:
            made.add_row("", "", Text(line, style="dim"))
    console.out.print(made)


def print_readings(shown: Sequence[Reading]) -> None:
    """Rows as the model reads them, with the tokens that are learnt marked."""
    if not shown:
        return
    coloured = console.out.is_terminal and not console.out.no_color
    mark = "in green" if coloured else f"between {MARKS[0]} and {MARKS[1]}"
    learnt = any(own for one in shown for _, own in one.spans)
    what = f"the tokens that are learnt stand {mark}" if learnt else "it answers from their end on"
    console.out.print(Text(f"\nthe first rows as the model reads them; {what}", style="bold"))
    for one in shown:
        console.out.print(Text(f"{one.where}  {one.about}".rstrip(), style="dim"))
        said = Text()
        for text, own in one.spans:
            left, right = MARKS if own and not coloured else ("", "")
            said.append(f"{left}{_folded(text)}{right}", "green" if own else "")
        console.out.print(Padding(said, (0, 0, 0, 4)))


def _folded(text: str) -> str:
    """A long text without its middle."""
    left_out = len(text) - 2 * FOLD
    if left_out <= FOLD // 4:
        return text
    return f"{text[:FOLD]} … [{counted(left_out, 'character')}] … {text[-FOLD:]}"


def print_read(plans: Sequence[Plan]) -> None:
    """The first rows of every stage as its model will read them."""
    for plan in plans:
        if plan.shown and len(plans) > 1:
            say(f"\n{plan.stage.replace('_', ' ')}")
        print_readings(plan.shown)


# ---- a recipe


def print_plans(plans: Sequence[Plan]) -> None:
    """A table of the stages to train."""
    columns = ["stage", "#parameters", "#trained", "#rows", "#held out", "#left out", "#steps"]
    rows = [
        (
            plan.stage.replace("_", " "),
            millions(plan.parameters),
            millions(plan.trainable),
            str(plan.rows),
            str(plan.held_out),
            str(plan.left_out),
            str(plan.steps),
            magnitude(plan.tokens),
        )
        for plan in plans
    ]
    table("what will be trained", [*columns, "#tokens"], rows)
    for sentence in dict.fromkeys(line for plan in plans for line in plan.said):
        say(sentence)


def print_forecast(forecast: Forecast) -> None:
    """A table of the time, memory and disk that it will take."""
    rows = [
        (
            part.stage.replace("_", " "),
            f"{part.seconds_per_step:.2f} s",
            duration(part.seconds),
            f"{part.tokens_per_second:.0f}",
            f"{part.disk_gb:.2f} GB",
        )
        for part in forecast.stages
    ]
    table("forecast", ["stage", "#a step", "#in all", "#tokens a second", "#disk"], rows)
    text = f"time {duration(forecast.seconds)}, memory {forecast.memory_gb:.1f} GB at its peak"
    text += f", disk {forecast.disk_gb:.2f} GB, tokens {magnitude(forecast.tokens)}"
    if forecast.money is not None:
        text += f", price {forecast.money:.2f}"
    say(text)
    for sentence in forecast.warnings:
        say(f"note: {sentence}", "yellow")


def print_paper(paper: Paper, machines: Machines) -> None:
    """What a recipe takes on other machines, the longest part of a step, and what was assumed."""
    where = f"{machines.nodes} × {machines.devices} × {machines.device}"
    rows = [
        (
            f"{part.name}, meanwhile" if part.beside else part.name,
            about(part.seconds),
            percent(part.seconds / stage.step),
            part.cause,
        )
        for stage in paper.stages
        for part in stage.parts
        if part.seconds >= SHOWN * stage.step
    ]
    table(f"a step on {where}, on paper", ["part", "#seconds", "#share", "waits for"], rows)
    columns = ["stage", "#a step", "#in all", "#tokens", "#tokens a second", "#memory a device"]
    table("", columns, [_on_paper(stage) for stage in paper.stages])
    text = f"time about {lasting(paper.seconds)}, {about(paper.device_hours)} device hours"
    if paper.money is not None:
        text += f", price about {about(paper.money)}"
    say(text)
    for stage in paper.stages:
        say(f"bottleneck of {stage.stage.replace('_', ' ')}: {stage.bottleneck}.")
    for sentence in paper.warnings:
        say(f"note: {sentence}", "yellow")
    say("assumed:")
    for sentence in paper.assumptions:
        say(f"  {sentence}")


def _on_paper(stage: PaperStage) -> tuple[str, ...]:
    memory = sum(stage.memory.values()) / 1e9
    rate = stage.tokens_per_second
    total = lasting(stage.seconds)
    return (
        stage.stage.replace("_", " "),
        f"{about(stage.step)} s",
        total,
        magnitude(stage.tokens),
        about(rate),
        f"{about(memory)} GB",
    )
