"""Answers as files: what trainers take, what people look into, and an account beside each.

``tone.jsonl`` comes with ``tone.jsonl.summary.json``: what was counted and left out, how far raters
agree, and how reliable each of them is. An export is made from the state at one event, so making it
again gives the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from backflip.errors import UserError
from backflip.feedback.exchange import argilla, export_rows, label_studio
from backflip.feedback.exchange.files import check_suffix, sidecar, write_rows, write_summary
from backflip.feedback.exchange.mapping import KindMapping, kinds_where
from backflip.feedback.exchange.rater_rows import rater_rows
from backflip.feedback.exchange.records import Per, Source
from backflip.feedback.exchange.sheet import Sheet
from backflip.feedback.projects.project import Project


@dataclass(frozen=True)
class ExportFormat:
    """One way to write answers down."""

    name: str
    what: str
    """In words, for people who choose."""
    rows: Callable[[Source], Iterator[dict[str, Any]]]
    pers: tuple[Per, ...] = get_args(Per)
    """Units of a row; the first is the default."""
    listed: bool = False
    """Whether another tool reads it as one JSON list."""
    everywhere: bool = False
    """Whether every kind of project has it; else the kinds that say so."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of project that have it."""

        def has(mapping: KindMapping) -> bool:
            return (
                self.everywhere
                or (self.listed and bool(mapping.question))
                or self.name in mapping.formats
            )

        return tuple(kind.name for kind in kinds_where(has))


_ONE_BY_ONE: tuple[Per, ...] = ("answer",)
FORMATS = {
    made.name: made
    for made in (
        ExportFormat(
            "preference",
            "TRL preference: prompt, chosen, rejected, margin and weight; no ties or even splits",
            export_rows.preference,
        ),
        ExportFormat(
            "soft",
            "Soft labels: prompt, chosen, rejected and p_chosen; ties and even splits are ½",
            export_rows.soft,
        ),
        ExportFormat(
            "hh",
            "Anthropic's HH: chosen and rejected as transcripts; no ties, no even splits",
            export_rows.transcripts,
        ),
        ExportFormat(
            "rankings",
            "Rankings of K: prompt, completions and rank, 0 the best",
            export_rows.rankings,
        ),
        ExportFormat(
            "unpaired",
            "TRL unpaired: prompt, completion and label, true or false",
            export_rows.unpaired,
        ),
        ExportFormat(
            "kto",
            "KTO: the same, with the weights that balance good and bad in the summary",
            export_rows.unpaired,
        ),
        ExportFormat(
            "stepwise",
            "TRL stepwise: prompt, completions (steps) and labels (true or false)",
            export_rows.stepwise,
        ),
        ExportFormat(
            "demonstrations",
            "Demonstrations: messages to imitate, as people wrote them",
            export_rows.demonstrations,
            _ONE_BY_ONE,
        ),
        ExportFormat(
            "labels",
            "Labels: one row an item, each verdict with its posterior, and what other methods say",
            export_rows.labels,
            ("item",),
            everywhere=True,
        ),
        ExportFormat(
            "answers",
            "Answers: one row each, as given, with rater, order, time and rubric version",
            export_rows.answers,
            _ONE_BY_ONE,
            everywhere=True,
        ),
        ExportFormat(
            "raters",
            "Raters: one row each under their pseudonym, with what the statistics say of them",
            rater_rows,
            _ONE_BY_ONE,
            everywhere=True,
        ),
        ExportFormat(
            "argilla",
            "Argilla: records with fields and responses, as its 2.x reads them",
            argilla.records,
            _ONE_BY_ONE,
            listed=True,
        ),
        ExportFormat(
            "label_studio",
            "Label Studio: tasks with annotations",
            label_studio.tasks,
            _ONE_BY_ONE,
            listed=True,
        ),
    )
}
"""By name."""


@dataclass(frozen=True)
class Written:
    """An export that is on the disk."""

    path: Path
    rows: int
    summary: Path
    lines: tuple[str, ...]
    """The accounting, a sentence each."""


def offered(kind: str) -> list[ExportFormat]:
    """The formats of a kind of project."""
    return [made for made in FORMATS.values() if kind in made.kinds]


def format_of(kind: str, name: str) -> ExportFormat:
    """A format by name. Raises UserError for one that the kind does not have."""
    known = {made.name: made for made in offered(kind)}
    if name in known:
        return known[name]
    there = f"; {name} needs {', '.join(FORMATS[name].kinds)}" if name in FORMATS else ""
    raise UserError(
        f"projects of kind {kind!r} have no export {name[:40]!r}{there}. Use one of "
        f"{', '.join(known)}."
    )


def export(
    project: Project,
    format: str,
    path: Path,
    *,
    per: Per | None = None,
    until: int | None = None,
    part: str = "",
) -> Written:
    """Write a project's answers to a file: JSON lines, JSON, Parquet or CSV by its ending.

    Args:
        project: whose answers.
        format: one of ``offered``.
        path: .jsonl, .jsonl.gz, .json, .parquet or .csv; appears whole or not at all.
        per: a row for each item, aggregated over raters, or for each answer.
        until: the event up to which the log counts; none: the newest.
        part: golden: the judgements of seniors that are kept for probes.

    Raises:
        UserError: no such format, an ending that is not known, nothing to write.

    """
    chosen = format_of(project.settings.kind, format)
    check_suffix(path, listed=chosen.listed)
    if per is not None and per not in chosen.pers:
        raise UserError(f"{format} has one row for each {chosen.pers[0]}; leave per={per} out.")
    source = Source(project, until=until, part=part, per=per or chosen.pers[0])
    sheet = Sheet()
    count = write_rows(path, chosen.rows(source), chosen.name, sheet)
    if not count:
        path.unlink(missing_ok=True)
        raise UserError(f"nothing to export: {'; '.join(source.accounting.lines())}.")
    beside = sidecar(path)
    made = export_rows.summary(source, chosen.name, count)
    made["said"] += sheet.lines()
    write_summary(beside, made)
    return Written(path, count, beside, tuple(made["said"]))
