"""Charts as small SVG drawings: no library to load, readable in light, dark, print and by keyboard.

Colours are classes (``c1`` … ``c10``) that the page's style sheet gives a meaning; what a pointer
shows is in ``data-chart``, as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from backflip.text import counted, fixed, minus

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 50, 22, 30, 40
MOST_POINTS = 300
FEW_POINTS = 16
"""Up to here each point gets a dot; above, the raw line is faint and a smoothed one is drawn."""

COLOURS = 10
"""Of curves; they repeat after these."""
WHOLE = ("step", "round", "day", "week")
"""Axes that are counted in whole numbers."""


@dataclass(frozen=True)
class Series:
    """One curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 1
    band: Sequence[tuple[float, float]] = ()
    """Lower and upper end of each point's interval; empty without."""


@dataclass(frozen=True)
class Chart:
    """Curves over a common axis."""

    title: str
    series: Sequence[Series]
    unit: str = ""
    x_label: str = "step"
    percent: bool = False
    zero: bool = False
    """Whether the axis must show 0."""
    lines: Mapping[str, float] = field(default_factory=dict[str, float])
    """Heights worth a dashed line, by their name."""
    marks: Sequence[tuple[float, str]] = ()
    """Steps at which an alarm fired, and its sentence."""
    note: str = ""
    whiskers: bool = False
    """Whether intervals are lines at each point, for many curves, and not surfaces."""


@dataclass(frozen=True)
class Axes:
    """From data to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]

    def px(self, x: float) -> float:
        low, high = self.x
        return round(LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def py(self, y: float) -> float:
        low, high = self.y
        return round(HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)


def line_chart(chart: Chart) -> Markup:
    """A figure with its caption; empty where no series has a point."""
    series = [_thinned(s) for s in chart.series if len(s.x)]
    if not series:
        return Markup()
    axes = _axes(chart, series)
    body = [*_grid(axes, chart), *_rules(axes, chart)]
    if chart.whiskers:
        body += [whisker for curve in series for whisker in _whiskers(axes, curve)]
    else:
        body += [_band(axes, curve) for curve in series if len(curve.band) > 1]
    for curve in series:
        body += _curve(axes, curve)
    return _figure(chart, series, axes, body)


def reliability_diagram(points: Sequence[Mapping[str, float]], *, title: str) -> Markup:
    """Share that the preferred reply won, over the stated confidence; dot area is the count."""
    if not points:
        return Markup()
    axes = Axes((0.5, 1.0), (0.0, 1.0))
    chart = Chart(title, (), "preferred reply won", "stated confidence", percent=True)
    most = max(p["count"] for p in points) or 1
    dots = sorted(points, key=lambda p: p["confidence"])
    body = [*_grid(axes, chart, x_percent=True)]
    body.append(_segment(axes, (0.5, 0.5), (1.0, 1.0), "ideal"))
    path = [(axes.px(p["confidence"]), axes.py(p["accuracy"])) for p in dots]
    body.append(Markup('<polyline class="line c1" points="{}"/>').format(_points(path)))
    for (x, y), p in zip(path, dots, strict=True):
        radius = round(3 + 8 * math.sqrt(p["count"] / most), 1)
        sure = f"sure at {p['confidence']:.0%}, right {p['accuracy']:.0%}"
        label = f"{counted(p['count'], 'pair')}: {sure}"
        dot = '<circle class="dot c1" cx="{}" cy="{}" r="{}"><title>{}</title></circle>'
        body.append(Markup(dot).format(x, y, radius, label))
    named = Series("measured", [p["confidence"] for p in dots], [p["accuracy"] for p in dots])
    return _figure(chart, [named], axes, body, legend="measured; dashed: perfectly calibrated")


def histogram(
    groups: Mapping[str, Sequence[float]],
    *,
    title: str,
    unit: str = "share of answers",
    of: str = "score",
) -> Markup:
    """Shares of each group over common bins, about as many as √n."""
    groups = {name: values for name, values in groups.items() if values}
    everything = sorted(v for values in groups.values() for v in values)
    if not everything or everything[0] == everything[-1]:
        return Markup()
    ticks = nice_ticks(everything[0], everything[-1])
    low, high = min(ticks[0], everything[0]), max(ticks[-1], everything[-1])
    bins = min(max(math.isqrt(len(everything)), 6), 24)
    width = (high - low) / bins
    series: list[Series] = []
    for colour, (name, values) in enumerate(groups.items(), start=1):
        counts = [0] * bins
        for value in values:
            counts[min(int((value - low) / width), bins - 1)] += 1
        middles = [low + (i + 0.5) * width for i in range(bins)]
        series.append(Series(name, middles, [c / len(values) for c in counts], colour))
    chart = Chart(title, series, unit, of, percent=True, zero=True)
    axes = Axes((low, high), (0.0, nice_ticks(0.0, max(max(s.y) for s in series))[-1]))
    body = _grid(axes, chart)
    for group in series:
        columns = zip(group.x, group.y, strict=True)
        steps = [(m + side * width / 2, y) for m, y in columns for side in (-1, 1)]
        path = [(axes.px(x), axes.py(y)) for x, y in [(low, 0.0), *steps, (high, 0.0)]]
        area = '<polygon class="area c{}" points="{}"/>'
        body.append(Markup(area).format(group.colour, _points(path)))
    return _figure(chart, series, axes, body, legend=None, values=False)


def intervals(rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """Means with their intervals under one another, for a card: (name, mean, low, high)."""
    low, high = min(min(row[1:]) for row in rows), max(max(row[1:]) for row in rows)
    scale = 160 / (high - low or 1.0)
    body: list[Markup] = []
    for index, (name, *values) in enumerate(rows):
        mean, lower, upper = (round(60 + (v - low) * scale, 1) for v in values)
        y = 12 + 20 * index
        body.append(Markup('<text x="0" y="{}">{}</text>').format(y + 4, name))
        bar = '<line class="bar c1" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
        dot = '<circle class="dot c1" cx="{}" cy="{}" r="5"/>'
        body += [Markup(bar).format(lower, upper, y=y), Markup(dot).format(mean, y)]
    svg = '<svg class="mini" viewBox="0 0 230 {}" aria-hidden="true">{}</svg>'
    return Markup(svg).format(20 * len(rows) + 4, Markup().join(body))


NOISE = 1e-9
"""A spread below this share of the numbers is rounding: an axis shows them as equal."""


def colour_of(place: int) -> int:
    """The colour of a curve by its place among others, from 0."""
    return place % COLOURS + 1


def nice_ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Round numbers that enclose the range: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high - low <= NOISE * max(abs(low), abs(high)):
        gap = abs(low) * 0.1 or 1.0
        low, high = low - gap, high + gap
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def shown(value: float, *, percent: bool = False) -> str:
    """A number for an axis or a legend: three digits, a real minus sign, no long tails."""
    if percent:
        text = f"{value * 100:.3g} %"
    elif value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        digits, power = f"{value:.1e}".split("e")
        text = f"{digits.removesuffix('.0')}e{int(power)}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}".replace(",", "\u202f")
    else:
        text = f"{value:.3g}"
    return minus(text)


def _axes(chart: Chart, series: Sequence[Series]) -> Axes:
    xs = [x for s in series for x in s.x]
    ys = [y for s in series for y in (*s.y, *(end for ends in s.band for end in ends))]
    near = [v for v in chart.lines.values() if v <= 2.5 * max(map(abs, ys))]
    ticks = nice_ticks(min([*ys, *near, *([0.0] if chart.zero else [])]), max([*ys, *near]))
    low, high = min(xs), max(xs)
    if low == high:
        low, high = low - 1, high + 1
    if chart.percent and min(ys) == max(ys) == 0:  # shares lie between 0 and 1
        ticks = [0.0, 1.0]
    top = min(ticks[-1], 1.0) if chart.percent and max(ys) <= 1 else ticks[-1]
    return Axes((low, high), (ticks[0], top))


def _grid(axes: Axes, chart: Chart, *, x_percent: bool = False) -> list[Markup]:
    body: list[Markup] = []
    tick = '<text class="tick" text-anchor="{}" x="{}" y="{}">{}</text>'
    ys = [y for y in nice_ticks(*axes.y) if axes.y[0] <= y <= axes.y[1]]
    for y, label in zip(ys, _labels(ys, percent=chart.percent), strict=True):
        kind = "zero" if y == 0 and axes.y[0] < 0 else "grid"
        body.append(_segment(axes, (axes.x[0], y), (axes.x[1], y), kind))
        body.append(Markup(tick).format("end", LEFT - 7, axes.py(y) + 4, label))
    xs = [x for x in nice_ticks(*axes.x, most=6) if axes.x[0] <= x <= axes.x[1]]
    if chart.x_label in WHOLE:
        xs = [x for x in xs if x == int(x)]
    for x, label in zip(xs, _labels(xs, percent=x_percent), strict=True):
        body.append(Markup(tick).format("middle", axes.px(x), HEIGHT - BOTTOM + 18, label))
    title = '<text class="axis" text-anchor="{}" x="{}" y="{}">{}</text>'
    body.append(Markup(title).format("start", 4, 12, chart.unit))
    body.append(Markup(title).format("end", WIDTH - RIGHT, HEIGHT - 5, chart.x_label))
    return body


def _labels(ticks: Sequence[float], *, percent: bool) -> list[str]:
    """Ticks with the same number of digits behind the point."""
    labels = [shown(tick, percent=percent) for tick in ticks]
    if percent or any("e" in label or "\u202f" in label for label in labels):
        return labels
    digits = max((len(label.partition(".")[2]) for label in labels), default=0)
    return [fixed(tick, digits) for tick in ticks]


def _rules(axes: Axes, chart: Chart) -> list[Markup]:
    """Dashed heights, and the steps of alarms."""
    body: list[Markup] = []
    for name, y in chart.lines.items():
        if axes.y[0] <= y <= axes.y[1]:
            body.append(_segment(axes, (axes.x[0], y), (axes.x[1], y), "ideal"))
            label = '<text class="rule" text-anchor="end" x="{}" y="{}">{}</text>'
            height = axes.py(y) + (13 if axes.py(y) < TOP + 13 else -4)
            body.append(Markup(label).format(WIDTH - RIGHT - 2, height, name))
    for x, sentence in chart.marks:
        if axes.x[0] <= x <= axes.x[1]:
            mark = '<g class="alarm"><title>{}</title><line x1="{x}" x2="{x}" y1="{}" y2="{}"/>'
            flag = '<path d="M{x} {} l7 4 l-7 4 z"/></g>'
            drawn = Markup(mark).format(sentence, TOP, HEIGHT - BOTTOM, x=axes.px(x))
            body.append(drawn + Markup(flag).format(TOP, x=axes.px(x)))
    return body


def _whiskers(axes: Axes, series: Series) -> list[Markup]:
    """The interval of each point of a curve as an upright line."""
    line = '<line class="whisker c{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>'
    return [
        Markup(line).format(series.colour, axes.py(low), axes.py(high), x=axes.px(x))
        for x, (low, high) in zip(series.x, series.band, strict=False)
    ]


def _band(axes: Axes, series: Series) -> Markup:
    """The intervals of a curve as a surface behind it."""
    ends = list(zip(series.x, series.band, strict=True))
    above = [(axes.px(x), axes.py(high)) for x, (_, high) in ends]
    below = [(axes.px(x), axes.py(low)) for x, (low, _) in reversed(ends)]
    area = '<polygon class="area band c{}" points="{}"/>'
    return Markup(area).format(series.colour, _points([*above, *below]))


def _curve(axes: Axes, series: Series) -> list[Markup]:
    raw = [(axes.px(x), axes.py(y)) for x, y in zip(series.x, series.y, strict=True)]
    line = '<polyline class="{} c{}" points="{}"/>'
    if len(raw) > FEW_POINTS:
        smooth = [(x, axes.py(y)) for (x, _), y in zip(raw, _smoothed(series.y), strict=True)]
        faint = Markup(line).format("raw", series.colour, _points(raw))
        return [faint, Markup(line).format("line", series.colour, _points(smooth))]
    dots = [_mark(series.colour, x, y) for x, y in raw]
    return [Markup(line).format("line", series.colour, _points(raw)), *dots]


def _mark(colour: int, x: float, y: float) -> Markup:
    """A point; beyond six curves a square, so that colours that are near stay apart."""
    if colour <= 6:
        return Markup('<circle class="dot c{}" cx="{}" cy="{}" r="3"/>').format(colour, x, y)
    square = '<rect class="dot c{}" x="{}" y="{}" width="6" height="6"/>'
    return Markup(square).format(colour, round(x - 3, 1), round(y - 3, 1))


def _figure(
    chart: Chart,
    series: Sequence[Series],
    axes: Axes,
    body: Sequence[Markup],
    *,
    legend: str | None = None,
    values: bool = True,
) -> Markup:
    items = Markup().join(
        _legend_item(curve, chart, values=values and not legend) for curve in series
    )
    if legend:
        items = Markup('<span class="key"><i class="swatch c1"></i>{}</span>').format(legend)
    ends = [(s.name, *(shown(y, percent=chart.percent) for y in (s.y[0], s.y[-1]))) for s in series]
    spoken = "; ".join(f"{name} from {first} to {last}" for name, first, last in ends)
    html = (
        '<figure class="chart" tabindex="0" data-chart="{data}"><figcaption><b>{title}</b>'
        '<span class="keys">{items}</span></figcaption><svg viewBox="0 0 {w} {h}" role="img" '
        'aria-label="{title}: {spoken}">{body}<g class="hover"></g></svg>{note}</figure>'
    )
    note = Markup('<p class="note">{}</p>').format(chart.note) if chart.note else Markup()
    return Markup(html).format(
        data=_hover_data(chart, series, axes), title=chart.title, items=items, w=WIDTH, h=HEIGHT,
        spoken=spoken, body=Markup().join(body), note=note,
    )  # fmt: skip


def _legend_item(series: Series, chart: Chart, *, values: bool) -> Markup:
    last = shown(series.y[-1], percent=chart.percent) if values else ""
    key = '<span class="key"><i class="swatch c{}"></i>{} <output>{}</output></span>'
    return Markup(key).format(series.colour, series.name, last)


def _hover_data(chart: Chart, series: Sequence[Series], axes: Axes) -> str:
    return json.dumps(
        {
            "x": axes.x,
            "y": axes.y,
            "box": [LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP],
            "label": chart.x_label,
            "percent": chart.percent,
            "series": [
                {
                    "name": s.name,
                    "colour": s.colour,
                    "x": [float(f"{v:.6g}") for v in s.x],
                    "y": [float(f"{v:.5g}") for v in s.y],
                }
                for s in series
            ],
        },
        separators=(",", ":"),
    )


def _segment(axes: Axes, start: tuple[float, float], end: tuple[float, float], kind: str) -> Markup:
    line = '<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>'
    (x1, y1), (x2, y2) = start, end
    return Markup(line).format(kind, axes.px(x1), axes.py(y1), axes.px(x2), axes.py(y2))


def _points(path: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in path)


def _thinned(series: Series) -> Series:
    """At most MOST_POINTS points, each the mean of its neighbours."""
    size = math.ceil(len(series.x) / MOST_POINTS)
    if size == 1:
        return series
    starts = range(0, len(series.x), size)
    x, y = ([_mean(v[i : i + size]) for i in starts] for v in (series.x, series.y))
    return Series(series.name, x, y, series.colour)


def _smoothed(values: Sequence[float]) -> list[float]:
    """A line fitted to each point's neighbours, near ones weighing more: no lag, ends included."""
    reach = max(len(values) // 6, 2)
    return [_local_line(values, i, reach) for i in range(len(values))]


def _local_line(values: Sequence[float], i: int, reach: int) -> float:
    """The height at i of a weighted least-squares line through the neighbours within reach."""
    near = range(max(0, i - reach), min(len(values), i + reach + 1))
    weights = [1 - abs(j - i) / (reach + 1) for j in near]
    total = sum(weights)
    centre = sum(w * (j - i) for w, j in zip(weights, near, strict=True)) / total
    mean = sum(w * values[j] for w, j in zip(weights, near, strict=True)) / total
    spread = sum(w * (j - i - centre) ** 2 for w, j in zip(weights, near, strict=True))
    tilt = sum(
        w * (j - i - centre) * (values[j] - mean) for w, j in zip(weights, near, strict=True)
    )
    return mean - centre * tilt / spread


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
