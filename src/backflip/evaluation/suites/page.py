"""A suite's report as a page that needs nothing but a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

from backflip.evaluation.suites.report import SuiteReport, change_said, said
from backflip.evaluation.suites.statistic import Kind, Measure, Row
from backflip.functional.statistics import Interval
from backflip.monitor.charts import nice_ticks, shown

__all__ = ["page"]

STYLE = Path(__file__).parents[2] / "monitor" / "style.html"
WIDTH, LABELS, RIGHT, STEP = 860, 330, 30, 30
SHOWN_ROWS = 40
"""Questions that the page shows; the file beside it has all."""
LONGEST = 400
"""Letters of a cell."""


def page(report: SuiteReport) -> str:
    """Picture, table, sentences and the first questions."""
    kinds: tuple[Kind, ...] = ("share", "points", "number")
    pictures = Markup().join(
        _picture([m for m in report.measures if m.statistic.kind == kind], report) for kind in kinds
    )
    against = f", compared with {report.before}" if report.before else ""
    about = f"{report.model}{against}, on {report.data} ({len(report.rows)} rows)"
    if report.model == report.data:
        about = f"{report.data} ({len(report.rows)} rows)"
    notes = Markup().join(Markup("<li>{}</li>").format(line) for line in report.sentences)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(report.suite)}: {escape(report.model)}</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style><main><p class=brand>Backflip</p>"
        f"<h1>{escape(report.title)}</h1><p>{escape(about)}</p><ul class=verdict>{notes}</ul>"
        f"{_tables(report)}{pictures}{_table(report)}{_rows(report.rows)}</main></html>"
    )


def _picture(measures: Sequence[Measure], report: SuiteReport) -> Markup:
    """Numbers of one kind under one another, each with its interval, before and after."""
    known = [m for m in measures if math.isfinite(m.value.estimate)]
    ends = [end for m in known for one in _both(m) for end in (one.estimate, one.low, one.high)]
    ends = [end for end in ends if math.isfinite(end)]
    if not ends:
        return Markup()
    kind, height = known[0].statistic.kind, STEP * len(known) + 30
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    if kind != "share":
        ticks = nice_ticks(min([0.0, *ends]), max([0.0, *ends]))

    def px(value: float) -> float:
        inside = min(max(value, ticks[0]), ticks[-1])
        share = (inside - ticks[0]) / (ticks[-1] - ticks[0])
        return round(LABELS + share * (WIDTH - LABELS - RIGHT), 1)

    grid = '<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{}"/>'
    grid += '<text class="tick" text-anchor="middle" x="{x}" y="{}">{}</text>'
    body = [
        Markup(grid).format(height - 24, height - 8, shown(t, percent=kind != "number"), x=px(t))
        for t in ticks
    ]
    for place, measure in enumerate(known):
        middle = STEP * place + 16
        text = '<text class="tick" x="0" y="{}">{}</text>'
        body.append(Markup(text).format(middle + 4, measure.statistic.label))
        for one, colour, y in zip(_both(measure), (1, 2), (middle, middle + 8), strict=False):
            body += _dot(px(one.low), px(one.high), px(one.estimate), y, colour)
    return _figure(Markup().join(body), height, report)


def _figure(body: Markup, height: int, report: SuiteReport) -> Markup:
    keys = [(1, report.model), *([(2, report.before)] if report.before else [])]
    key = '<span class="key"><i class="swatch c{}"></i>{}</span>'
    legend = Markup().join(Markup(key).format(colour, who) for colour, who in keys)
    figure = (
        '<figure class="chart" style="margin:1rem 0"><figcaption><span class="keys">{}</span>'
        '</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></figure>'
    )
    title = f"{report.title}: numbers with 95 % intervals, as in the table"
    return Markup(figure).format(legend, WIDTH, height, title, body)


def _dot(low: float, high: float, middle: float, y: float, colour: int) -> list[Markup]:
    bar = '<line class="bar line c{}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
    dot = '<circle class="dot c{}" cx="{}" cy="{}" r="4"/>'
    return [Markup(bar).format(colour, low, high, y=y), Markup(dot).format(colour, middle, y)]


def _both(measure: Measure) -> list[Interval]:
    return [one for one in (measure.value, measure.was) if one is not None]


def _table(report: SuiteReport) -> Markup:
    heads = ["", "measured", "95 % interval", "units"]
    if report.before:
        heads += ["before", "change", "95 % interval"]
    lines = [Markup("<tr>{}</tr>").format(_cells(heads, "th"))]
    for measure in report.measures:
        cells = [measure.statistic.label, *said(measure), str(measure.value.units or "")]
        if report.before:
            cells += [said(measure, was=True)[0], *change_said(measure)]
        lines.append(Markup("<tr>{}</tr>").format(_cells(cells, "td")))
    return Markup("<section><table>{}</table></section>").format(Markup().join(lines))


def _tables(report: SuiteReport) -> Markup:
    """The tables beside the numbers, above all else: they are what was asked for."""
    form = (
        "<section><h2>{}</h2>{}<div class=wide><table><thead><tr>{}</tr></thead><tbody>{}</tbody>"
        "</table></div></section>"
    )
    parts: list[Markup] = []
    for table in report.tables:
        names = [head.removeprefix("#") for head in table.heads]
        plain = ['class="num"' if head.startswith("#") else "" for head in table.heads]
        body = Markup().join(
            Markup("<tr>{}</tr>").format(
                Markup().join(
                    Markup("<td {}>{}</td>").format(Markup(kind), cell)
                    for kind, cell in zip(plain, line, strict=True)
                )
            )
            for line in table.lines
        )
        drawn = _picture(table.drawn, report)
        parts.append(Markup(form).format(table.title, drawn, _cells(names, "th"), body))
    return Markup().join(parts)


def _rows(rows: Sequence[Row]) -> Markup:
    """The first questions, so that a reader sees what the numbers stand on."""
    names = list(dict.fromkeys(name for row in rows[:SHOWN_ROWS] for name in row))
    lines = [Markup("<tr>{}</tr>").format(_cells(names, "th"))]
    for row in rows[:SHOWN_ROWS]:
        cells = [_short(row.get(name)) for name in names]
        lines.append(Markup("<tr>{}</tr>").format(_cells(cells, "td")))
    about = f"The first {min(len(rows), SHOWN_ROWS)} of {len(rows)} rows"
    table = "<section><details><summary>{}</summary><table>{}</table></details></section>"
    return Markup(table).format(about, Markup().join(lines))


def _short(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _cells(texts: Sequence[str], kind: str) -> Markup:
    return Markup().join(Markup(f"<{kind}>{{}}</{kind}>").format(text) for text in texts)
