"""Pictures of the statistics page. Under each stand its numbers as a table, for who cannot see it
or wants to know them exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from backflip.feedback.projects.project import Project
from backflip.monitor.charts import Chart, Series, line_chart
from backflip.text import fixed, percent, signed

MOST_DAYS = 60
MOST_RATERS = 12
"""Raters whose sessions are drawn: those with the most answers."""
UNTOLD = "too short a time to tell"
WIDEST = 2.0
"""An interval of a slope this wide, 200 percentage points, tells nothing."""
ARMS = ("active", "random")
FEATURES = {"length": "Prefers longer answers", "lists": "Prefers lists"}
Part = Mapping[str, Any]
"""Figures of all judgements, or of one version of the rubric (``figures.py``)."""


def drawn(chart: Chart, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """A chart with its numbers beneath; empty where there is nothing to draw."""
    figure = line_chart(chart)
    if not figure:
        return figure
    cells = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup('<td class="num">{}</td>').format(cell) for cell in row)
        )
        for row in rows
    )
    names = Markup("").join(Markup('<th scope="col" class="num">{}</th>').format(h) for h in head)
    html = (
        '<div class="plot">{}<details class="numbers"><summary>Numbers<span class="sr">: {}</span>'
        '</summary><div class="wide"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
        "</div></details></div>"
    )
    return Markup(html).format(figure, chart.title, names, cells)


def days(project: Project) -> Markup:
    """Answers a day, as a curve."""
    counts = project.tallies()
    found = sorted((name[4:], value) for name, value in counts.items() if name[:4] == "day:")
    if len(found) < 3:
        return Markup()
    found = found[-MOST_DAYS:]
    values = [value for _, value in found]
    series = Series("answers", [float(n) for n in range(1, len(values) + 1)], values)
    chart = Chart("Answers a day", [series], "answers", "day (UTC)", zero=True)
    return drawn(chart, ["Day (UTC)", "Answers"], [(day, f"{value:,.0f}") for day, value in found])


def over_time(part: Part) -> Markup:
    """Krippendorff's α in stretches of equally many items, with its band."""
    moments = [m for m in part["over_time"] if "estimate" in m]
    if len(moments) < 2:
        return Markup()
    items, total = list[float](), 0
    for one in moments:
        total += one["items"]
        items.append(float(total))
    series = Series("α", items, _estimates(moments), band=_band(moments))
    lines = {"chance": 0.0, "0.667, tentative": 0.667}
    chart = Chart("Agreement over time", [series], "Krippendorff’s α", "items", lines=lines)
    rows = [
        (f"{n:,.0f}", f"{m['estimate']:.2f}", f"{m['low']:.2f} to {m['high']:.2f}")
        for n, m in zip(items, moments, strict=True)
    ]
    return drawn(chart, ["Items", "α", "95 % interval"], rows)


def gained(gain: Mapping[str, Any] | None) -> Markup:
    """Accuracy of models that learnt from either arm, by how many labels they had."""
    if not gain or not gain["labels"]:
        return Markup()
    labels = [float(n) for n in gain["labels"]]
    series = [_arm(name, labels, gain[name], colour) for colour, name in enumerate(ARMS, start=1)]
    unit = "right on held-out pairs"
    chart = Chart("What active queries gained", series, unit, "labels", percent=True)
    rows = [
        (f"{n:,.0f}", *(_percent(*gain[name][k]) for name in ARMS),
         _points(*gain["difference"][k]))
        for k, n in enumerate(labels)
    ]  # fmt: skip
    return drawn(chart, ["Labels", "Active", "Random", "Difference, points"], rows)


def _arm(name: str, labels: list[float], spans: Sequence[Sequence[float]], colour: int) -> Series:
    means, band = [m for m, _, _ in spans], [(low, high) for _, low, high in spans]
    return Series(name, labels, means, colour, band)


def gain_in_words(gain: Mapping[str, Any] | None) -> str:
    """The last point of the chart as a sentence, or why there is none."""
    if not gain:
        return ""
    if not gain["labels"]:
        return str(gain["why"])
    mean, low, high = gain["difference"][-1]
    labels = gain["labels"][-1]
    ahead = "ahead of" if mean >= 0 else "behind"
    sure = "beyond doubt" if low > 0 or high < 0 else "which may be chance"
    between = f"{signed(100 * low, 1)} to {signed(100 * high, 1)}"
    return (
        f"With {labels:,} labels the model of the active arm is {abs(100 * mean):.1f} points "
        f"{ahead} that of the random arm (95 % interval {between}), {sure}. Both were tried on "
        f"{gain['held_out']:,} pairs of the random arm that neither had seen."
    )


def sessions(part: Part, names: Mapping[str, str]) -> list[Markup]:
    """For each rater with enough answers, agreement with the others over a session's minutes."""
    shown = [rater for rater in part["raters"] if len(rater["session"]) > 1][:MOST_RATERS]
    return [chart for rater in shown if (chart := _session(rater, names.get(rater["name"], "")))]


def _session(rater: Mapping[str, Any], name: str) -> Markup:
    points = [p for p in rater["session"] if "estimate" in p]
    if len(points) < 2:
        return Markup()
    minutes = [p["minutes"] for p in points]
    series = Series("agrees with others", minutes, _estimates(points), band=_band(points))
    title = f"{rater['name']} · {name}" if name else rater["name"]
    note = slope(rater["tiring"], "an hour")
    chart = Chart(title, [series], "agreement", "minutes", percent=True, zero=True, note=note)
    rows = [
        (
            f"{p['minutes']:.0f}",
            f"{p['judgements']:,}",
            _percent(p["estimate"], p["low"], p["high"]),
            "–" if p["seconds"] is None else f"{p['seconds']:.0f}",
        )
        for p in points
    ]
    return drawn(chart, ["Minutes", "Answers", "Agrees", "Seconds"], rows)


def slope(moved: Mapping[str, float] | None, per: str) -> str:
    """How fast a share moves, in words; ``per``: the unit of time."""
    if moved is None:
        return ""
    said = drift(moved)
    if said == UNTOLD:
        return said
    return f"{said} points {per}{'' if direction(moved) else ': no drift beyond chance'}"


def drift(moved: Mapping[str, float]) -> str:
    """The same as numbers alone, for a table whose head says the unit."""
    if moved["high"] - moved["low"] > WIDEST:
        return UNTOLD
    return _points(moved["estimate"], moved["low"], moved["high"])


def direction(moved: Mapping[str, float]) -> str:
    """Which way it surely goes: "falls", "rises" or neither."""
    if drift(moved) == UNTOLD:
        return ""
    return "falls" if moved["high"] < 0 else "rises" if moved["low"] > 0 else ""


def preferences(part: Part) -> list[Markup]:
    """For each feature, which way choices went from week to week."""
    return [chart for one in part["leanings"] if (chart := _leaning(one))]


def _leaning(one: Mapping[str, Any]) -> Markup:
    weeks = [w for w in one["weeks"] if "estimate" in w]
    if len(weeks) < 2:
        return Markup()
    series = Series(
        "share for more", [float(w["number"]) for w in weeks], _estimates(weeks), band=_band(weeks)
    )
    chart = Chart(
        FEATURES.get(one["feature"], str(one["feature"])),
        [series],
        "of choices",
        "week",
        percent=True,
        zero=True,
        lines={"": 0.5},
        note=slope(one["trend"], "a week"),
    )
    rows = [
        (w["number"], f"{w['choices']:,}", _percent(w["estimate"], w["low"], w["high"]))
        for w in weeks
    ]
    return drawn(chart, ["Week", "Choices", "For more of it"], rows)


def _estimates(points: Iterable[Mapping[str, float]]) -> list[float]:
    return [p["estimate"] for p in points]


def _band(points: Iterable[Mapping[str, float]]) -> list[tuple[float, float]]:
    return [(p["low"], p["high"]) for p in points]


def _percent(mean: float, low: float, high: float) -> str:
    return f"{percent(mean)} ({fixed(100 * low, 0)} to {fixed(100 * high, 0)})"


def _points(mean: float, low: float, high: float) -> str:
    """A change in percentage points with its interval; no tenths where that is wide."""
    digits = 0 if high - low > 0.2 else 1
    return "{} ({} to {})".format(*(signed(100 * x, digits) for x in (mean, low, high)))
