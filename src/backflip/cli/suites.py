"""``backflip evaluate MODEL suite=NAME``: suites of behaviour, and the list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from backflip.cli.console import notes, say, table
from backflip.errors import UserError

if TYPE_CHECKING:
    from backflip.evaluation.suites.report import SuiteReport

KEY = "suite="
"""The beginning of the word by which suites are asked for."""
SUITE = "suite=NAME data=FILE KEY=VALUE… for behaviour, which --suites lists"
HELP = "help"


def list_suites(wanted: bool) -> None:
    """Print the suites with a line and their settings each, and leave."""
    if not wanted:
        return
    import dataclasses

    from backflip.recipes.suites import SUITES

    rows = [
        (name, kind.title, ", ".join(f.name for f in dataclasses.fields(kind)))
        for name, kind in SUITES.items()
    ]
    table("", ["suite=", "measures", "settings"], rows)
    say(
        "All take data=FILE, limit=, before=REPORT.json, out=FOLDER, and where a model is asked "
        "template=, system=, max_tokens=, temperature=, seed=."
    )
    raise typer.Exit


def wants_suite(words: Sequence[str]) -> bool:
    """Whether a suite is named among the settings."""
    return any(word.startswith(KEY) for word in words)


def run_suites(model: str, words: Sequence[str], options: dict[str, Any], *, as_json: bool) -> None:
    """Measure a model by the suites that ``words`` name, and print each when it is there."""
    import json

    from backflip.recipes.names import pairs
    from backflip.recipes.suites import evaluate_suites

    first = bool(words) and "=" not in words[0]
    given: dict[str, Any] = {"data": words[0]} if first else {}
    given |= pairs(words[1:] if first else words) | options
    wrong = [name for name in ("format", "max_length", "policy") if name in options]
    if wrong:
        raise UserError(f"--{wrong[0].replace('_', '-')} is not for suites. Leave it out.")
    asked = given.pop("suite")
    names = [str(one).strip() for one in (asked if isinstance(asked, list) else [asked])]
    names = [part for name in names for part in name.split(",") if part]
    if HELP in names:
        list_suites(wanted=True)
    found: list[dict[str, Any]] = []
    for report in evaluate_suites(model, names, given):
        if as_json:
            found.append(report.to_json())
        else:
            _print(report)
    if as_json:
        told = found[0] if len(found) == 1 else found
        typer.echo(json.dumps(told, ensure_ascii=False, allow_nan=False))


def _print(report: SuiteReport) -> None:
    """Numbers, intervals, changes, and sentences."""
    from backflip.evaluation.suites.report import change_said, said

    heads = ["", "#measured", "95 % interval", "#units"]
    if report.before:
        heads += [f"#{report.before}", "#change", "95 % interval"]
    rows: list[list[str]] = []
    for measure in report.measures:
        cells = [measure.statistic.label, *said(measure), str(measure.value.units or "")]
        if report.before:
            cells += [said(measure, was=True)[0], *change_said(measure)]
        rows.append(cells)
    for one in report.tables:
        table(one.title, one.heads, one.lines)
    of = "" if report.model == report.data else f"{report.model} on "
    table(f"{report.suite}: {of}{report.data}", heads, rows)
    notes(report.sentences)
    say(f"page {report.page}")
