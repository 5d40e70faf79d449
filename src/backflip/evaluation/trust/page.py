"""The report on a reward as one page that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from backflip.evaluation.reward_model import Slice
from backflip.evaluation.trust.pairs import Refusal
from backflip.evaluation.trust.report import TrustReport
from backflip.evaluation.trust.tables import Rows, points, share, tables
from backflip.monitor.charts import histogram, reliability_diagram
from backflip.monitor.interval_plot import Bar, interval_plot
from backflip.monitor.report import render_page
from backflip.monitor.views.base import Card
from backflip.text import counted, fixed

__all__ = ["trust_page"]

NOTES = {
    "calibration": "Temperature scaling is fitted on one half of the prompts and measured on the "
    "other, both ways. The error of a calibrated model is not 0: shares differ from claims by "
    "chance.",
    "probes": "An answer that people preferred is changed in a way whose worth is known, and both "
    "are scored. Shifts are in deviations of the scores of all answers measured.",
    "agreement": "Any model is bounded by how much people agree: on a pair on which raters are "
    "split no answer agrees with all of them.",
}
"""Explanations beneath the titles of tables, by their subjects."""
COLOURED = "Orange: should lose. Blue: should not gain."


def trust_page(said: TrustReport) -> str:
    """HTML with verdicts, headline numbers, pictures, and all tables."""
    measured = said.measured
    detail = f"{counted(measured.pairs, 'pair')} of {counted(measured.prompts, 'prompt')}"
    if measured.ties:
        detail += f", {counted(measured.ties, 'tie')} left out"
    charts = list(_charts(said))
    sections = [
        _section(rows, [chart for subject, chart in charts if subject == rows.subject])
        for rows in tables(said)
    ]
    return render_page(
        "sections.html",
        heading=f"How far can {said.name} be trusted?",
        detail=f"{detail}. Intervals are of 95 %, by prompt.",
        verdict=said.sentences,
        cards=list(_cards(said)),
        sections=sections,
    )


def _section(rows: Rows, charts: list[Markup]) -> dict[str, Any]:
    head = [name.removeprefix("#") for name in rows.heads]
    title = rows.title[:1].upper() + rows.title[1:]
    table = {"head": head, "rows": rows.rows}
    return {
        "title": title,
        "note": NOTES.get(rows.subject, ""),
        "charts": charts,
        "tables": [table],
    }


def _cards(said: TrustReport) -> Iterator[Card]:
    measured = said.measured
    yield _card("Accuracy", share(measured.accuracy))
    yield _card("Points better than length alone", points(measured.over_length))
    chance = f"{fixed(said.ece_if_calibrated, 3)} by chance, were it calibrated"
    yield Card("Calibration error", fixed(measured.ece, 3), chance)
    if said.members is not None:
        yield _card("Points of ensemble less members", points(said.members.gain))
    if said.golden is not None:
        wrong = len(said.golden.failures) + said.golden.unscored
        yield Card("Golden pairs that fail", str(wrong), f"of {said.golden.pairs}")


def _card(label: str, cells: tuple[str, str]) -> Card:
    value, ends = cells
    return Card(label, value, f"95 % interval {ends}" if " to " in ends else ends)


def _charts(said: TrustReport) -> Iterator[tuple[str, Markup]]:
    """Pictures with the subject of the table that they stand above."""
    curves = {"as it is": said.measured.reliability}
    if not isinstance(said.rescaled, Refusal):
        curves["temperature-scaled"] = said.rescaled.reliability
    for name, curve in curves.items():
        bins = [{"confidence": c, "accuracy": a, "count": n} for c, a, n in curve]
        yield "calibration", reliability_diagram(bins, title=f"Reliability, {name}")
    margins = {"preferred reply less the other": [float(d) for d in said.deltas]}
    yield (
        "calibration",
        histogram(margins, title="Differences of scores", unit="share of pairs", of="difference"),
    )
    plain = [Slice("all pairs", said.measured.pairs, said.measured.accuracy)]
    baselines = [
        Bar("longer reply wins", said.measured.longer, colour=2),
        Bar("shorter reply wins", said.measured.shorter, colour=2),
    ]
    yield "length", _accuracies((*plain, *said.measured.slices), "Accuracy by length", baselines)
    for column in (one for one in said.columns if one.slices):
        yield column.name, _accuracies((*plain, *column.slices), f"Accuracy by {column.name}")
    if said.probes:
        yield "probes", _shifts(said)
        yield "probes", _wins(said)


def _accuracies(slices: tuple[Slice, ...], title: str, more: list[Bar] | None = None) -> Markup:
    bars = [Bar(s.name, s.accuracy, counted(s.pairs, "pair")) for s in slices]
    return interval_plot(
        [*bars, *(more or [])], title=title, unit="share of pairs right", percent=True, line=0.5
    )


def _shifts(said: TrustReport) -> Markup:
    bars = [Bar(p.name, p.shift, p.example, _colour(p.expected)) for p in said.probes]
    return interval_plot(
        bars, title="Shift of the score", unit="deviations", line=0.0, note=COLOURED
    )


def _wins(said: TrustReport) -> Markup:
    bars = [Bar(p.name, p.wins, p.example, _colour(p.expected)) for p in said.probes]
    return interval_plot(
        bars, title="Changed answer wins", unit="share of answers", percent=True, line=0.5,
        note=COLOURED,
    )  # fmt: skip


def _colour(expected: str) -> int:
    return 2 if expected == "loses" else 1
