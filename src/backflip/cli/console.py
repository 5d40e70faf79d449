"""What the commands print: tables and sentences."""

from __future__ import annotations

import math
import re
import webbrowser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from backflip.cli.layout import laid_out
from backflip.monitor.progress import breaks_between_words
from backflip.text import counted, duration, magnitude, millions, percent

if TYPE_CHECKING:
    from backflip.api import Run
    from backflip.evaluation.reward_model import RewardReport
    from backflip.functional.statistics import Interval
    from backflip.recipes.best_of import BestOfN
    from backflip.recipes.describe import Setting
    from backflip.recipes.forecast import Forecast, Plan

out = Console(highlight=False)
EXAMPLES, LETTERS = 3, 300
"""Held-out prompts that are shown at the end of a run, and how much of each text."""
FEW = 5
"""Algorithms whose settings are listed side by side; of more, only those of the chosen one."""
OFTEN = (
    "data.limit", "data.max_length", "data.held_out", "epochs", "steps", "batch_size", "turns",
    "reference", "template", "eval_every", "checkpoint_every", "trackers", "threads", "seed",
)  # fmt: skip
"""Settings that people change although recipes seldom say them."""
SCREEN = 26
"""Lines of a recipe and its settings that are shown at once."""


def say(sentence: str, style: str = "") -> None:
    """One line, as it is for a program; in a terminal it breaks between words."""
    out.print(Text(sentence, style=style), soft_wrap=not breaks_between_words(out, sentence))


def notes(sentences: Iterable[str]) -> None:
    """Things to look at that stop nobody."""
    for sentence in sentences:
        say(f"note: {sentence}", "yellow")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of text that fits the terminal; columns that begin with ``#`` are numbers."""
    for part in laid_out(title, columns, rows, out.width):
        out.print(part)


# ---- runs


def print_result(run: Run) -> None:
    """What a run came to, and what can be done with it."""
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
        out.print(made)


def _print_tables(run: Any) -> None:
    """Row by row what a stage came to, where it goes by rounds."""
    from backflip.monitor.views import view_of

    for stage in run.stages:
        if made := view_of(stage.name).table(stage):
            table("", *made)


def print_sweep(folder: Path) -> None:
    """What came of every run of a sweep, and the page that compares them."""
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
        say(f"the longer reply wins {share(base)}, the shorter one {share(1 - base)}")
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
    from backflip.monitor.folder import read_run

    runs = [(str(folder), read_run(folder)) for folder in folders]
    from backflip.monitor import report

    table("", *report.table(runs))
    if len(runs) == 1:
        _print_tables(runs[0][1])
        for sentence in report.sentences(runs[0][1]):
            say(sentence)
        page = report.write_report(folders[0])
    else:
        page = report.write_comparison(folders, folders[0].resolve().parent / "compare.html")
    say(f"report  {page}")
    if browser:
        webbrowser.open(page.resolve().as_uri())


def follow(folder: Path, port: int, *, browser: bool) -> None:
    """Serve a page that follows a running run, until Ctrl-C."""
    from backflip.monitor.folder import read_run

    read_run(folder)
    from backflip.monitor.live import serve

    def ready(address: str) -> None:
        say(f"following {folder} at {address}   (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)

    serve(folder, port, ready=ready)


# ---- checks


def print_plans(plans: Sequence[Plan]) -> None:
    """What will be trained, stage by stage."""
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
    """What it will take."""
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


def print_recipe(name: str, *, everything: bool = False) -> None:
    """A recipe as it is written and what else is often changed; or every setting there is."""
    from backflip.recipes.describe import settings
    from backflip.recipes.load import load_recipe
    from backflip.recipes.names import find_recipe

    path = find_recipe(name)
    recipe = load_recipe(name)
    values = _flat(recipe.model_dump(mode="json"))
    chosen = {values.get(f"{p}name") for p in _algorithms(values)}
    listed = settings(recipe.stage)
    own = [setting for setting in listed if not setting.choice or setting.choice in chosen]
    if everything:
        whole = len({setting.choice for setting in listed}) <= FEW
        for setting in listed if whole else own:
            _print_setting(setting, values if setting in own else {})
        if not whole:
            say("what each of the other objectives has: backflip recipe NAME --all")
        return
    text = path.read_text(encoding="utf-8").rstrip()
    out.print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    rest = {setting.path: setting for setting in own}
    lines = text.count("\n")
    more = [rest[path] for path in OFTEN if path in rest and not re.search(rf"\b{path}:", text)]
    if more and lines + len(more) < SCREEN:
        made = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        made.add_column(no_wrap=True)
        made.add_column(overflow="fold")
        for setting in more:
            value = values.get(setting.path, setting.default)
            made.add_row(Text(f"{setting.path}={value}"), Text(_first_clause(setting.meaning)))
        out.print(Text("\nalso often changed", style="bold"))
        out.print(made)
    say(f"\nall {len(own)} settings: backflip recipe {name} --all", "dim")


def _first_clause(meaning: str) -> str:
    """As much of a meaning as a line holds."""
    return re.split(r"[;:(]|\. |, where ", meaning)[0].strip().rstrip(".")


def _print_setting(setting: Setting, values: Mapping[str, str]) -> None:
    """A setting with its value and what it may be, then what it means."""
    value = values.get(setting.path, setting.default)
    line = Text(setting.path, style="bold").append(f" = {value}", style="not bold")
    kind = f"   {setting.kind}" + (f", of {setting.choice}" if setting.choice else "")
    out.print(line.append(kind, style="not bold dim"))
    out.print(Padding(Text(setting.meaning), (0, 0, 0, 4)))


def _algorithms(values: Mapping[str, str]) -> list[str]:
    return [key.removesuffix("name") for key in values if key.endswith(".name")]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    from backflip.recipes.describe import said

    found: dict[str, str] = {}
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}.")
            if "name" in value:
                found[path] = str(value["name"])
        else:
            found[path] = said(value)
    return found


# ---- a reward model


def print_report(report: RewardReport) -> None:
    """Accuracy, calibration and what is to be noticed."""
    text = f"{counted(report.pairs, 'pair')} of {counted(report.prompts, 'prompt')}"
    say(text + (f", {counted(report.ties, 'tie')} left out" if report.ties else ""))
    rows = [
        ("accuracy", *_percent(report.accuracy)),
        ("“the longer reply wins”", *_percent(report.longer)),
        ("“the shorter reply wins”", *_percent(report.shorter)),
        *(
            (f"accuracy: {s.name} ({s.pairs})", *_percent(s.accuracy))
            for s in report.slices
            if s.pairs < report.pairs
        ),
        ("log-loss (guessing: 0.693)", *_number(report.log_loss)),
        ("Brier score (guessing: 0.25)", *_number(report.brier)),
        ("expected calibration error", f"{report.ece:.3f}", ""),
        ("calibration slope (calibrated: 1)", *_slope(report.slope)),
        ("scores: mean ± deviation", f"{report.scores.mean:.2f} ± {report.scores.std:.2f}", ""),
        ("scores: from … to", f"{report.scores.low:.2f} … {report.scores.high:.2f}", ""),
    ]
    table("", ["", "#measured", "95 % interval"], rows)
    bins = [(f"{c:.0%}", f"{a:.0%}", str(n)) for c, a, n in report.reliability]
    table("reliability", ["#claims", "#is right", "#pairs"], bins)
    notes(report.sentences)


def print_best_of_n(found: BestOfN) -> None:
    """What choosing among n answers is worth, and where the best answers are."""
    parts = list(found.points[0].parts)
    named = [f"#by {name}" for name in parts]
    heads = ["#n", "#expected reward", *named, "#KL by the formula, nats", "#prompts"]
    rows = [
        (
            str(point.n),
            _ranged(point.reward),
            *(_ranged(point.parts[name]) for name in parts),
            f"{point.kl:.2f}",
            str(point.prompts),
        )
        for point in found.points
    ]
    table("", heads, rows)
    say("KL to the model itself by the formula log n − (n − 1)/n: less where scores tie")
    notes(found.notes)
    say(f"answers {found.answers}")


def _ranged(interval: Interval) -> str:
    from backflip.monitor.text import Estimate, ranged

    value, ends = ranged(Estimate.of(interval), digits=3)
    return f"{value} [{ends.replace(' to ', ', ') or 'unknown'}]"


def _percent(interval: Interval) -> tuple[str, str]:
    from backflip.monitor.text import Estimate, share_ranged

    return share_ranged(Estimate.of(interval))


def _number(interval: Interval, digits: int = 3) -> tuple[str, str]:
    from backflip.monitor.text import Estimate, ranged

    value, ends = ranged(Estimate.of(interval), digits=digits)
    return value, ends or "unknown"


def _slope(interval: Interval) -> tuple[str, str]:
    """A slope; where every pair is right by its score, no finite one is the best."""
    if math.isinf(interval.estimate):
        return "no limit", "none is wrong" if interval.estimate > 0 else "all are wrong"
    return _number(interval, 2)


def share(value: float | int) -> str:
    """A share of something: ``12.5 %``."""
    return percent(value, 1)
