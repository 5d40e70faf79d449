"""The picture of the over-optimisation laboratory: gold over √KL, and the table of remedies.

Drawn from the summary: ``weak``, ``proxies``, ``best_of_n``, ``courses`` and ``remedies``, as
``laboratory/run.py`` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from backflip.functional.overoptimization import gain
from backflip.monitor.charts import Chart, Series, colour_of, line_chart
from backflip.monitor.run import Stage
from backflip.monitor.text import apart, number
from backflip.monitor.views.base import Card, Panel, Table, View
from backflip.monitor.views.gold import DISTANCE
from backflip.text import counted

NAMES = {
    "gold": "the gold itself",
    "kl": "KL penalty",
    "length": "length penalty",
    "ensemble": "ensemble, mean",
    "worst": "ensemble, worst case",
    "uncertainty": "ensemble, less its variance",
    "early_stop": "stop at the first alarm",
}
POINTS = 40


def called(name: str, weak: str = "") -> str:
    """A run as people call it."""
    kind, _, value = name.partition("_")
    forms = {"labels": f"{value} labels", "model": f"model {value}", "noise": f"{value} flipped"}
    said = NAMES.get(name) or forms.get(kind, name)
    return f"{said} (weak)" if name == weak else said


def _charts(stage: Stage) -> list[Markup]:
    courses, weak = stage.summary.get("courses") or {}, str(stage.summary.get("weak"))
    proxies = [name for name in stage.summary.get("proxies") or {} if name in courses]
    tried = [name for name in courses if name not in proxies and name != "gold"]
    drawn = [
        _weak(courses.get(weak), weak),
        _over_distance("Gold, reinforcement learning", courses, ["gold", *proxies], weak, "gold"),
        _over_distance("Score by the proxy, the same runs", courses, proxies, weak, "proxy"),
        _best_of_n(stage.summary.get("best_of_n") or {}, weak),
        _over_distance("Gold with remedies", courses, [weak, *tried], weak, "gold"),
    ]
    return [chart for chart in drawn if chart]


def _weak(course: Mapping[str, Any] | None, weak: str) -> Markup:
    """Gold of the weak proxy with its fitted curve, and the alarms that are counted."""
    if not course:
        return Markup()
    series = [Series("gold", course["d"], course["gold"], 1), *_fit(course, course["gold"][0])]
    at = number(course.get("alarm_d"))
    first = next(iter(course.get("alarms") or ()), {})
    marks = () if at is None else ((at, f"{first.get('name')}: {first.get('sentence')}"),)
    title = f"Gold against {called(weak)}, and the first alarm"
    note = "Fit: Gao et al.'s form for reinforcement learning. No alarm that counts saw the gold."
    return line_chart(Chart(title, series, "gold", DISTANCE, marks=marks, note=note))


def _fit(course: Mapping[str, Any], start: float) -> list[Series]:
    curve = course.get("curve")
    if not curve:
        return []
    alpha, beta = curve["alpha"][0], curve["beta"][0]
    at = [curve["farthest"] * i / POINTS for i in range(1, POINTS + 1)]
    return [Series("fitted", at, [start + gain(d, alpha, beta, curve["form"]) for d in at], 2)]


def _over_distance(
    title: str, courses: Mapping[str, Any], names: Sequence[str], weak: str, what: str
) -> Markup:
    found = [(name, courses[name]) for name in names if name in courses]
    series = [
        Series(called(name, weak), course["d"], course[what], colour_of(place))
        for place, (name, course) in enumerate(found)
    ]
    return line_chart(Chart(title, series, what, DISTANCE))


def _best_of_n(chosen: Mapping[str, Any], weak: str) -> Markup:
    """Gold of the answer that each proxy likes best, with intervals over prompts."""
    series = list[Series]()
    for place, (name, course) in enumerate(chosen.items()):
        points = [(d, g) for d, g in zip(course["d"], course["gold"], strict=True) if g]
        x, y = [d for d, _ in points], [g["estimate"] for _, g in points]
        band = [(g["low"], g["high"]) for _, g in points]
        series.append(Series(called(name, weak), x, y, colour_of(place), band))
    note = "d by log n − (n − 1)/n nats, which is an upper bound where answers tie."
    return line_chart(Chart("Gold, best of n", series, "gold", DISTANCE, note=note, whiskers=True))


# ---- the table and the words


def _table(stage: Stage) -> Table | None:
    """A row for each remedy against the weak proxy."""
    rows, weak = stage.summary.get("remedies") or (), str(stage.summary.get("weak"))
    if not rows:
        return None
    head = ["against the weak proxy", "gold at the start", "at its best", "at the end", "d there"]
    body = [
        [called(r["name"], weak), *(_said(r.get(at)) for at in ("start", "best", "end")), _far(r)]
        for r in rows
    ]
    return head, body


def _far(row: Mapping[str, Any]) -> str:
    stopped = f" (step {row['stopped']})" if row.get("stopped") is not None else ""
    return f"{row['end_d']:.2f}{stopped}"


def _said(found: Mapping[str, float] | None) -> str:
    if not found:
        return "unknown"
    value, low, high = apart([found["estimate"], found["low"], found["high"]], digits=3)
    return f"{value} [{low}, {high}]"


def _sentences(stage: Stage) -> list[str]:
    courses, weak = stage.summary.get("courses") or {}, str(stage.summary.get("weak"))
    if weak not in courses:
        return []
    chosen = (stage.summary.get("best_of_n") or {}).get(weak)
    said = [_chosen(chosen, weak), _turn(courses[weak], weak), _warned(courses[weak])]
    if "gold" in courses:
        rung = courses["gold"].get("alarms") or ()
        names = ", ".join(dict.fromkeys(str(a["name"]) for a in rung))
        by = f" ({names})" if names else ""
        said.append(f"Against the gold itself {counted(len(rung), 'alarm')} rang{by}.")
    return said


def _chosen(course: Mapping[str, Any] | None, weak: str) -> str:
    """Best of n by the weak proxy: gold of one answer, of the best n, of the largest n."""
    if not course or not all(course["gold"]):
        return ""
    means = [point["estimate"] for point in course["gold"]]
    top = max(range(len(means)), key=means.__getitem__)
    one, best, last = apart([means[0], means[top], means[-1]], digits=3)
    text = f"Choosing by {called(weak)}, gold went from {one} of one answer to {best} of the best "
    text += f"of {course['n'][top]} and {last} of the best of {course['n'][-1]}"
    curve = course.get("curve")
    if not curve or not curve["turned"]:
        return f"{text}; its fitted curve does not surely turn."
    at, low, high = apart(curve["peak"], digits=2)
    return f"{text}; its fitted curve is highest at d = {at} √nats (95 % interval {low} to {high})."


def _turn(course: Mapping[str, Any], weak: str) -> str:
    """Whether gold rose, and fell again, beyond its interval."""
    rose, fell = course.get("rose"), course.get("fell")
    if not rose or not fell:
        return f"Against {called(weak)} there are too few steps to tell whether gold rose or fell."
    up = f"rose by {_said(rose)}" if rose["low"] > 0 else "did not surely rise"
    down = (
        f"then fell by {_said(_minus(fell))}" if fell["high"] < 0 else "did not surely fall again"
    )
    return f"Against {called(weak)} gold {up} to d = {course['peak_d']:.2f} √nats and {down}."


def _minus(found: Mapping[str, float]) -> dict[str, float]:
    return {"estimate": -found["estimate"], "low": -found["high"], "high": -found["low"]}


def _warned(course: Mapping[str, Any]) -> str:
    """The first alarm beside the peak."""
    at, top = number(course.get("alarm_d")), course["peak_d"] ** 2
    if at is None:
        return "No counted alarm rang."
    first, kl = course["alarms"][0], at**2
    where = {True: "in time", False: "too late", None: "and gold did not surely fall"}
    return (
        f"The first alarm ({first['name']}) rang at step {first['step']}, at {kl:.1f} nats, where "
        f"gold was highest at {top:.1f}: {where[course.get('in_time')]}."
    )


def _weak_card(stage: Stage) -> Card | None:
    course = (stage.summary.get("courses") or {}).get(str(stage.summary.get("weak")))
    if not course or not course.get("best") or not course.get("end"):
        return None
    best, end = apart([course["best"]["estimate"], course["end"]["estimate"]], digits=2)
    detail = f"at its best, and at the end; {called(str(stage.summary['weak']))}"
    return Card("Gold against the weak proxy", f"{best} → {end}", detail)


VIEW = View(
    stages=("overoptimization",),
    place=5,
    title="Over-optimisation",
    headlines=("gold", "kl"),
    panels=lambda stage: (Panel("Gold at the end of each run", "gold", {"gold": "gold"}),),
    sentences=_sentences,
    cards=lambda stage: (_weak_card(stage),),
    charts=_charts,
    table=_table,
    speaks=False,
    x_label="run",
)
