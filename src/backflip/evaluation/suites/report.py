"""A suite's report: numbers with intervals, sentences, changes against another model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backflip.errors import UserError
from backflip.evaluation.suites.base import Suite, Table
from backflip.evaluation.suites.statistic import Measure, Rows, measured
from backflip.functional.statistics import FEWEST
from backflip.monitor.text import (
    TOO_FEW,
    Estimate,
    beyond,
    interval_said,
    ranged,
    share_ranged,
    standing,
)
from backflip.text import counted

__all__ = ["Kept", "SuiteReport", "change_said", "read_report", "reported", "said"]


@dataclass(frozen=True)
class SuiteReport:
    """What one suite found of one model."""

    suite: str
    """Its name."""
    title: str
    model: str
    data: str
    settings: Mapping[str, Any]
    measures: Sequence[Measure]
    sentences: Sequence[str]
    rows: Rows
    """A row for each question; kept beside the report."""
    before: str = ""
    """The model that it is compared with; empty: none."""
    page: str = ""
    """The file of a page with the same; empty before it is written."""
    tables: Sequence[Table] = ()
    """Beside the numbers: the models of a ladder, the subsets of a benchmark."""

    def __getitem__(self, name: str) -> Measure:
        """A number by its name."""
        return next(m for m in self.measures if m.statistic.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, without the rows."""
        return {
            "suite": self.suite,
            "model": self.model,
            "data": self.data,
            "settings": dict(self.settings),
            "items": len(self.rows),
            "before": self.before or None,
            "page": self.page or None,
            "measures": {m.statistic.name: m.to_json() for m in self.measures},
            "sentences": list(self.sentences),
            "tables": {table.name: list(table.records) for table in self.tables},
        }


@dataclass(frozen=True)
class Kept:
    """A report on disk, with its rows."""

    suite: str
    model: str
    data: str
    settings: Mapping[str, Any]
    rows: Rows


def read_report(path: Path) -> Kept:
    """A report that was written by ``backflip evaluate … suite=…``, by its JSON file.

    Raises UserError where it is none, or its rows are gone.
    """
    rows = path.with_suffix(".jsonl")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        lines = rows.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        return Kept(raw["suite"], raw["model"], raw["data"], raw["settings"], found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no report of a suite, or its rows {rows.name} are not beside it: {error}. "
            "Give the .json that `backflip evaluate MODEL suite=…` wrote."
        ) from error


def reported(
    suite: Suite,
    name: str,
    rows: Rows,
    *,
    model: str,
    data: str,
    notes: Sequence[str] = (),
    before: Kept | None = None,
    settings: Mapping[str, Any] | None = None,
) -> SuiteReport:
    """The report on rows; ``before``: of another model, whose rows it is compared with.

    Raises UserError where the other is of another suite.
    """
    if before is not None and before.suite != name:
        raise UserError(
            f"before is a report of suite={before.suite}, and this is suite={name}: two models are "
            "compared by the same suite."
        )
    if not rows:
        raise UserError(f"suite {name}: {data} leaves no question to measure.")
    past = None if before is None else before.rows
    measures = [measured(one, rows, past) for one in suite.statistics(rows)]
    sentences = [*notes, *suite.sentences(rows, measures), *_few(measures)]
    if before is not None:
        sentences += _compared(measures, before, len(rows))
        sentences += _unlike(settings or {}, before, data)
    return SuiteReport(
        name, suite.title, model, data, settings or {}, measures, sentences, rows,
        "" if before is None else before.model, tables=suite.tables(rows),
    )  # fmt: skip


def _few(measures: Sequence[Measure]) -> list[str]:
    """Numbers that stand on too few units for a verdict."""
    few = [m.statistic.label for m in measures if m.value.units is not None and not m.value.enough]
    return [f"Under {FEWEST} independent units, {TOO_FEW}: {'; '.join(few)}."] if few else []


def said(measure: Measure, *, was: bool = False) -> tuple[str, str]:
    """A number and its interval as text."""
    value = measure.was if was else measure.value
    assert value is not None
    found = Estimate.of(value)
    if measure.statistic.kind == "share":
        return share_ranged(found)
    if measure.statistic.kind == "points":
        number, ends = ranged(found, digits=1, percent=True, beside=(0.0,))
        return f"{number} points", ends
    return ranged(found, digits=3)


def change_said(measure: Measure) -> tuple[str, str]:
    """The change against the other model, and its interval; empty where it was not measured."""
    if measure.change is None:
        return "", ""
    share = measure.statistic.kind != "number"
    found, digits = Estimate.of(measure.change), 1 if share else 3
    number, ends = ranged(found, digits=digits, percent=share, beside=(0.0,))
    number = f"+{number}" if found.value > 0 else number
    return f"{number} points" if share else number, ends


def _compared(measures: Sequence[Measure], before: Kept, rows: int) -> list[str]:
    """The numbers that changed beyond chance, and the names of those that did not."""
    found: list[str] = []
    others: dict[str, list[str]] = {}
    for measure in measures:
        if measure.change is None:
            continue
        name, change = measure.statistic.label, Estimate.of(measure.change)
        if not change.enough:
            others.setdefault(TOO_FEW, []).append(name)
        elif way := beyond(change, 0.0):
            number, ends = change_said(measure)
            found.append(
                f"“{name}” {'rose' if way > 0 else 'fell'} against {before.model}: {number}, "
                f"{interval_said(ends)}, on {counted(measure.common, 'common question')}."
            )
        else:
            others.setdefault("no change beyond chance", []).append(name)
    found += [
        f"Against {before.model}, {why}: {'; '.join(names)}." for why, names in others.items()
    ]
    common = max((m.common for m in measures), default=0)
    if common < rows or common < len(before.rows):
        found.append(
            f"Changes are measured on questions that both answered: {standing(common, 'question')} "
            f"of {rows} here and {len(before.rows)} before."
        )
    return found


def _unlike(settings: Mapping[str, Any], before: Kept, data: str) -> list[str]:
    """Differences between the two measurements that are not the models'."""
    names = sorted(set(settings) | set(before.settings))
    unlike = [n for n in names if settings.get(n) != before.settings.get(n)]
    shown = [f"{n} {before.settings.get(n)!r} and now {settings.get(n)!r}" for n in unlike]
    if before.data != data:
        shown.append(f"data {before.data} and now {data}")
    return [f"The two were measured with different settings: {'; '.join(shown)}."] if shown else []
