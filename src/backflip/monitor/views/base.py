"""The picture of one kind of stage: panels, alarm rules, headlines, sentences and cards.

A view is the only place that knows a kind of stage by name: report, progress bar and alarms ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from backflip.functional.kl import LARGE_KL
from backflip.monitor.charts import (
    Chart,
    Series,
    colour_of,
    histogram,
    intervals,
    line_chart,
    reliability_diagram,
)
from backflip.monitor.progress import ROUNDING
from backflip.monitor.rules.base import Rule
from backflip.monitor.run import Stage
from backflip.monitor.text import (
    KL_BY_ANSWERS,
    KL_EXACT,
    Estimate,
    apart,
    estimate,
    interval_said,
    length_baseline,
    measured,
    number,
    ranged,
    share,
    share_ranged,
    standing,
)
from backflip.text import counted

Table = tuple[list[str], list[list[str]]]
"""Head and rows."""


@dataclass(frozen=True)
class Panel:
    """One chart before there are numbers in it: metrics by the names they are shown under."""

    title: str
    unit: str
    metrics: Mapping[str, str]
    percent: bool = False
    zero: bool = False
    lines: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Card:
    """One number at the top of the report."""

    label: str
    value: str
    detail: str = ""
    picture: Markup = field(default_factory=Markup)
    ends: str = ""
    """The 95 % interval of the number, of the last one where there are several."""


@dataclass(frozen=True, kw_only=True)
class View:
    """The picture of one kind of stage; a default stands for a part that the kind has not."""

    stages: tuple[str, ...]
    """Names of such a stage in logs and recipes, the present one first."""
    place: int
    """Its place in a pipeline, which orders the folders of a chain."""
    title: str
    titled_by_algorithm: bool = False
    """Whether the title is that of the algorithm, where the recipe names one."""
    headlines: tuple[str, ...]
    """Metrics of the progress bar; never a policy-gradient loss: on-policy it says nothing."""
    panels: Callable[[Stage], Sequence[Panel]]
    """Charts to look at first."""
    engine: tuple[Panel, ...] = ()
    """Charts of the engine room, beside those of every optimiser."""
    rules: Callable[[float | None, int], tuple[Rule, ...]] = lambda kl_stop, steps: ()
    """Alarm rules, from the KL in nats per answer at which to stop and the number of steps; None
    and 0 where those are not known."""
    sentences: Callable[[Stage], Sequence[str]] = lambda stage: ()
    """The results in words; empty sentences are left out."""
    cards: Callable[[Stage], Sequence[Card | None]] = lambda stage: ()
    """The headline numbers; those that do not exist are None."""
    last_cards: Callable[[Stage], Sequence[Card | None]] = lambda stage: ()
    """Headline numbers of a stage that nothing follows."""
    charts: Callable[[Stage], Sequence[Markup]] = lambda stage: ()
    """Charts that are more than curves over steps."""
    table: Callable[[Stage], Table | None] = lambda stage: None
    """The results row by row."""
    measured: Callable[[Any], Mapping[str, float]] = lambda loop: {}
    """Metrics of the newest step that the training loop does not return itself."""
    speaks: bool = True
    """Whether its model answers prompts."""
    x_label: str = "step"

    def main_charts(self, stage: Stage) -> list[Markup]:
        """Curves, then what the stage found at its end."""
        charts = [line_chart(self._chart(panel, stage)) for panel in self.panels(stage)]
        charts += [*self.charts(stage)]
        charts += [_reward_for_kl(stage), _reliability(stage), _scores(stage)]
        return [chart for chart in charts if chart]

    def engine_charts(self, stage: Stage) -> list[Markup]:
        """The optimiser's numbers, and every metric that no other chart shows."""
        charts = [line_chart(self._chart(panel, stage)) for panel in self._engine(stage)]
        return [chart for chart in charts if chart]

    def compared_charts(
        self, stages: Sequence[tuple[int, str, Stage]]
    ) -> tuple[list[Markup], list[Markup]]:
        """Every metric with one curve per stage, main charts and the engine's.

        ``stages``: colour, the name of the run, and its stage of this kind.
        """
        first = stages[0][2]
        main, engine = (
            [
                self._overlaid(panel, metric, label, stages)
                for panel in panels
                for metric, label in panel.metrics.items()
            ]
            for panels in (self.panels(first), self._engine(first))
        )
        return [chart for chart in main if chart], [chart for chart in engine if chart]

    def _engine(self, stage: Stage) -> list[Panel]:
        """Panels of the optimiser that the main ones do not show, and what nobody foresaw."""
        first = {metric for panel in self.panels(stage) for metric in panel.metrics}
        engine = (*self.engine, *ENGINE)
        names, ends = stage.metrics(), ("_low", "_high", "_units")
        drawn = first | {metric for panel in engine for metric in panel.metrics}
        drawn |= {f"{metric}{end}" for metric in (*names, "val") for end in ends}
        new = [m for m in names if m not in drawn and not _copied(stage, m, drawn)]
        shown = [panel for panel in engine if not first & set(panel.metrics)]
        return [*shown, *(Panel(m.replace("_", " "), "", {m: m}) for m in new)]

    def _chart(self, panel: Panel, stage: Stage) -> Chart:
        series = [
            Series(label, *_series(stage, metric), colour_of(place), _band(stage, metric))
            for place, (metric, label) in enumerate(panel.metrics.items())
        ]
        baseline = length_baseline(stage.summary) if "val_accuracy" in panel.metrics else None
        alone = None if baseline is None else {f"the {baseline[0]} reply wins": baseline[1]}
        marks = [
            (step, f"{alarm.get('name')}: {alarm.get('sentence')}")
            for alarm in stage.alarms
            if (step := number(alarm.get("step"))) is not None
        ]
        return self._drawn(panel, panel.title, series, alone, marks)

    def _overlaid(
        self, panel: Panel, metric: str, label: str, stages: Sequence[tuple[int, str, Stage]]
    ) -> Markup:
        """One metric of several runs."""
        series = [Series(name, *stage.series(metric), colour) for colour, name, stage in stages]
        alone = len(panel.metrics) == 1 or label == panel.title.lower()
        title = panel.title if alone else f"{panel.title}: {label}"
        return line_chart(self._drawn(panel, title, series))

    def _drawn(
        self,
        panel: Panel,
        title: str,
        series: Sequence[Series],
        lines: Mapping[str, float] | None = None,
        marks: Sequence[tuple[float, str]] = (),
    ) -> Chart:
        return Chart(
            title,
            series,
            panel.unit,
            self.x_label,
            panel.percent,
            panel.zero,
            dict(panel.lines) if lines is None else lines,
            tuple(marks),
        )


KLS = ("kl", "val_kl", "kl_k3")
KL_ALARM_LINE = ((f"alarm at {LARGE_KL:g}", LARGE_KL),)
REWARD = Panel("Reward", "score", {"reward": "reward", "reward_heldout": "held-out"})
LIKELIHOOD = Panel(
    "Likelihood of chosen answers",
    "−log π, nats per token",
    {"nll": "training", "val_nll": "held-out"},
)
ENGINE = (
    Panel("Gradient norm", "", {"grad_norm": "norm"}, zero=True),
    Panel("Learning rate", "", {"lr": "rate"}, zero=True),
    Panel("Speed", "tokens a second", {"tokens_per_s": "tokens"}, zero=True),
)
"""Of every optimiser."""


def _copied(stage: Stage, metric: str, drawn: set[str]) -> bool:
    """Whether a metric is that of a term whose like of the whole reward is drawn, and the same."""
    last, series = metric.rpartition("_")[2], stage.series(metric)
    return any(m == f"reward_{last}" and stage.series(m) == series for m in drawn)


def _series(stage: Stage, metric: str) -> tuple[list[float], list[float]]:
    """The curve of a metric; what arithmetic leaves of a KL between a model and itself is 0."""
    steps, values = stage.series(metric)
    if metric in KLS:
        values = [0.0 if abs(value) < ROUNDING else value for value in values]
    return steps, values


def _band(stage: Stage, metric: str) -> list[tuple[float, float]]:
    """The intervals of a metric, where each of its points has one."""
    steps, low, high = (stage.series(f"{metric}{end}") for end in ("", "_low", "_high"))
    whole = steps[0] == low[0] == high[0]
    return list(zip(low[1], high[1], strict=True)) if whole else []


def _reward_for_kl(stage: Stage) -> Markup:
    """Reward over the distance paid for it (Gao et al., 2023): a leash that is worth its length."""
    rows = [e.metrics for e in stage.entries if {"reward", "kl"} <= set(e.metrics)]
    curves: list[Series] = []
    for colour, (metric, label) in enumerate(REWARD.metrics.items(), start=1):
        points = sorted((r["kl"], r[metric]) for r in rows if metric in r and r["kl"] >= 0)
        finite = [p for p in points if all(number(v) is not None for v in p)]
        curves.append(Series(label, [x for x, _ in finite], [y for _, y in finite], colour))
    if not any(len(curve.x) > 1 for curve in curves):
        return Markup()
    note = "Where held-out reward bends down while reward climbs, the reward model may be gamed."
    note = note if len(curves[-1].x) > 1 else ""
    label = f"{KL_BY_ANSWERS}, nats per answer"
    return line_chart(Chart("Reward bought with KL", curves, "score", label, note=note))


def _reliability(stage: Stage) -> Markup:
    points = [
        {key: float(value) for key, value in point.items() if number(value) is not None}
        for point in stage.summary.get("reliability") or ()
    ]
    whole = [p for p in points if {"confidence", "accuracy", "count"} <= set(p) and p["count"] > 0]
    ece = number(stage.summary.get("ece"))
    title = "Reliability" if ece is None else f"Reliability (ECE {ece:.3f})"
    return reliability_diagram(whole, title=title)


def _scores(stage: Stage) -> Markup:
    """Scores of the answers shown first and last, or the groups that the summary names."""
    named = stage.summary.get("scores")
    if isinstance(named, dict):
        groups = {str(name): _numbers(values) for name, values in named.items()}
        return histogram(groups, title="Scores" if named else "Scores of sampled answers")
    steps = sorted({s["step"] for s in stage.samples if number(s.get("step")) is not None})
    groups = {
        f"step {step}": _numbers([s.get("score") for s in stage.samples if s["step"] == step])
        for step in ([steps[0], steps[-1]] if len(steps) > 1 else [])
    }
    return histogram(groups, title="Scores of sampled answers")


def _numbers(values: Sequence[object]) -> list[float]:
    return [value for value in map(number, values) if value is not None]


# ---- sentences and cards that several kinds of stage have


def golden_sentence(stage: Stage) -> str:
    """Agreement with the golden judgements, which stay apart from all that is learnt."""
    golden = _golden(stage)
    if (accuracy := number(golden.get("accuracy"))) is None:
        return ""
    text = f"It agrees with {share(accuracy)} of the golden judgements ({_pairs(golden)})."
    return " ".join([text, *map(str, golden.get("sentences") or ())])


def golden_card(stage: Stage) -> Card | None:
    """Agreement with the golden judgements."""
    golden = _golden(stage)
    if (accuracy := measured(golden)) is None:
        return None
    value, ends = share_ranged(accuracy)
    detail = _pairs(golden) + (f"; {interval_said(ends)}" if ends else "")
    return Card("Golden judgements", value, detail, _beside(accuracy, "model"), ends)


def _golden(stage: Stage) -> Mapping[str, Any]:
    golden = stage.summary.get("golden")
    return golden if isinstance(golden, Mapping) else {}


def _pairs(report: Mapping[str, Any]) -> str:
    return counted(report["pairs"], "pair") if "pairs" in report else "pairs not counted"


def accuracy_card(
    stage: Stage, label: str, who: str, baseline: tuple[str, float] | None
) -> Card | None:
    """Held-out accuracy, with its interval, beside that of length alone."""
    if (accuracy := measured(stage.summary)) is None:
        return None
    value, ends = share_ranged(accuracy)
    detail = [interval_said(ends)] if ends else []
    if accuracy.units is not None:
        detail.append(standing(accuracy.units))
    if baseline is not None:
        detail.append(f"“the {baseline[0]} reply wins”: {share(baseline[1])}")
    return Card(label, value, "; ".join(detail), _beside(accuracy, who, baseline), ends)


def _beside(accuracy: Estimate, who: str, baseline: tuple[str, float] | None = None) -> Markup:
    """An accuracy and its interval over that of length alone; nothing without an interval."""
    if not accuracy.known:
        return Markup()
    rows = [(who, accuracy.value, accuracy.low, accuracy.high)]
    if baseline is not None:
        rows.append((baseline[0], baseline[1], baseline[1], baseline[1]))
    return intervals(rows)


def change_card(stage: Stage, metric: str, label: str, end: str = "so far") -> Card | None:
    """First and last measurement, while a stage is not over."""
    steps, values = stage.series(metric)
    if not values:
        return None
    was, now = apart([values[0], values[-1]], digits=2)
    return Card(label, f"{was} → {now}", f"step {steps[0]:.0f} to {steps[-1]:.0f}, {end}")


def nats(kl: Estimate) -> tuple[str, str]:
    """A KL and its interval; arithmetic's leftovers between a model and itself are 0."""
    return ("0", "") if abs(kl.value) < ROUNDING else ranged(kl, digits=2, beside=(0.0, LARGE_KL))


def kl_at_end(stage: Stage) -> tuple[str, Estimate] | None:
    """The KL to the reference at the end: by the exact sum where it was taken, else by answers."""
    for key, called in (("kl_exact_after", KL_EXACT), ("kl_after", KL_BY_ANSWERS)):
        if (kl := estimate(stage.summary, key)) is not None:
            return called, kl
    return None


def kl_card(stage: Stage, *, by: Mapping[str, str]) -> Card | None:
    """Distance of the policy from the reference, and the measure that it is taken by.

    ``by``: metrics of a stage that is not over, by the name of the measure; the first counts.
    """
    last = [(by[metric], Estimate(kl)) for metric in by if (kl := stage.last(metric)) is not None]
    end = kl_at_end(stage) or next(iter(last), None)
    if end is None:
        return None
    called, kl = end
    gauge = '<svg class="mini" viewBox="0 0 230 24" aria-hidden="true">{}{}</svg>'
    bar = Markup('<rect class="{}" width="{:.0f}" height="8" y="8" rx="4"/>')
    colour = "fill bad" if kl.value > LARGE_KL else "fill c1"
    part = min(max(kl.value / LARGE_KL, 0.0), 1.0)
    picture = Markup(gauge).format(bar.format("rail", 230), bar.format(colour, 230 * part))
    value, ends = nats(kl)
    detail = f"{called}, per answer; " + (f"{interval_said(ends)}; " if ends else "")
    return Card(
        "KL to the reference", f"{value} nats", f"{detail}the leash is {LARGE_KL:g}", picture, ends
    )
