"""Which metrics share a chart, under which title and unit, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from backflip.monitor.charts import Chart, Series, histogram, line_chart, reliability_diagram
from backflip.monitor.direct_panels import DIRECT, DIRECT_ENGINE
from backflip.monitor.folder import Run, Stage, number
from backflip.monitor.panel import Panel
from backflip.monitor.rounds_panels import rounds_panels
from backflip.monitor.rounds_verdict import STAGE as ROUNDS_STAGE
from backflip.monitor.titles import KL_BY_ANSWERS

ONLINE = (
    Panel("Reward", "score", {"reward": "reward", "reward_heldout": "held-out"}),
    Panel(
        "KL to the reference",
        "nats per answer",
        {"kl": KL_BY_ANSWERS, "val_kl": f"{KL_BY_ANSWERS}, held-out"},
        zero=True,
        lines=(("alarm at 20", 20.0),),
    ),
    Panel("Entropy", "nats per token", {"entropy": "entropy"}, zero=True),
    Panel("Length of answers", "tokens", {"length": "length"}, zero=True),
    Panel("Answers that end by themselves", "share", {"finished": "finished"}, True, True),
    Panel(
        "Variety",
        "share",
        {"unique_tokens": "unique tokens", "duplicate_answers": "duplicate answers"},
        percent=True,
        zero=True,
    ),
)
STAGES = {
    "sft": (
        Panel("Loss", "nats per token", {"loss": "training", "val_loss": "validation"}),
        Panel(
            "Next token right",
            "share of tokens",
            {"accuracy": "training", "val_accuracy": "validation"},
            percent=True,
        ),
        Panel("Gradient norm", "", {"grad_norm": "norm"}, zero=True),
        Panel("Speed", "tokens a second", {"tokens_per_s": "tokens"}, zero=True),
    ),
    "reward_model": (
        Panel("Loss", "nats per comparison", {"loss": "training", "val_loss": "validation"}),
        Panel(
            "Accuracy",
            "comparisons right",
            {"accuracy": "training", "val_accuracy": "validation"},
            percent=True,
            lines=(("a coin", 0.5),),
        ),
        Panel("Margin", "score, preferred − other", {"margin": "margin"}, zero=True),
        Panel("Scores", "score", {"score_mean": "mean", "score_std": "standard deviation"}),
    ),
    "direct": DIRECT,
}
ENGINE = (
    *DIRECT_ENGINE,
    Panel("Critic: loss", "squared score", {"value_loss": "value loss"}, zero=True),
    Panel("Critic: explained variance", "share", {"explained_variance": "explained"}, zero=True),
    Panel("Clipped choices", "share", {"clip_fraction": "outside the clip"}, True, True),
    Panel("KL to the last policy", "nats per token", {"approx_kl": "by the answers"}, zero=True),
    Panel(
        "KL to the reference, k3", "nats per answer", {"kl_k3": f"{KL_BY_ANSWERS}, k3"}, zero=True
    ),
    Panel("KL coefficient", "", {"kl_coef": "coefficient"}, zero=True),
    Panel("Score against length", "correlation", {"score_length_corr": "Pearson's r"}, zero=True),
    Panel("Spread of scores", "standard deviation", {"reward_std": "reward"}, zero=True),
    Panel("Policy loss", "", {"policy_loss": "policy loss"}),
    Panel("Gradient norm", "", {"grad_norm": "norm"}, zero=True),
    Panel("Learning rate", "", {"lr": "rate"}, zero=True),
    Panel("Speed", "tokens a second", {"tokens_per_s": "tokens"}, zero=True),
)
MOST_HISTOGRAM_STEPS = 2
JUDGES = ("reward_model", "direct")
"""Stages whose accuracy is a share of comparisons."""


def panels_of(stage: Stage) -> Sequence[Panel]:
    """The charts a reader looks at first."""
    if stage.name == ROUNDS_STAGE:
        return rounds_panels(stage.metrics())
    return STAGES.get(stage.name) or (ONLINE if "reward" in stage.metrics() else STAGES["sft"])


def main_charts(stage: Stage) -> list[Markup]:
    """Curves, then what the stage found at its end."""
    charts = [line_chart(_chart(panel, stage)) for panel in panels_of(stage)]
    charts.append(_reward_for_kl(stage))
    charts.append(_reliability(stage))
    charts.append(_scores(stage))
    return [chart for chart in charts if chart]


def engine_charts(stage: Stage) -> list[Markup]:
    """The optimiser's numbers, and every metric that no other chart shows."""
    panels = _all_panels(stage)[len(panels_of(stage)) :]
    charts = [line_chart(_chart(panel, stage)) for panel in panels]
    return [chart for chart in charts if chart]


def compared_charts(
    runs: Sequence[tuple[str, Run]], stage: str
) -> tuple[list[Markup], list[Markup]]:
    """Every metric of a stage with one curve per run: those to look at first, and the engine's."""
    found = [(i, name, s) for i, (name, run) in enumerate(runs) for s in run.stages]
    same = [(i, name, s) for i, name, s in found if s.name == stage]
    first = panels_of(same[0][2])
    charts: tuple[list[Markup], list[Markup]] = ([], [])
    for panel in _all_panels(same[0][2]):
        for metric, label in panel.metrics.items():
            series = [Series(name, *s.series(metric), colour_of(i)) for i, name, s in same]
            alone = len(panel.metrics) == 1 or label == panel.title.lower()
            title = panel.title if alone else f"{panel.title}: {label}"
            lines = dict(panel.lines)
            chart = Chart(title, series, panel.unit, "step", panel.percent, panel.zero, lines)
            charts[panel not in first].append(line_chart(chart))
    return [c for c in charts[0] if c], [c for c in charts[1] if c]


def colour_of(index: int) -> int:
    """Colours repeat after six."""
    return index % 6 + 1


def _all_panels(stage: Stage) -> list[Panel]:
    """The stage's own, the engine's that it does not show already, and what nobody foresaw."""
    own = panels_of(stage)
    first = {metric for panel in own for metric in panel.metrics}
    engine = [panel for panel in ENGINE if not first & set(panel.metrics)]
    known = first | {metric for panel in ENGINE for metric in panel.metrics}
    ends = {f"{m}{end}" for m in (*stage.metrics(), "val") for end in ("_low", "_high", "_units")}
    new = [m for m in stage.metrics() if m not in known and m not in ends]
    rest = [Panel(m.replace("_", " "), "", {m: m}) for m in new]
    return [*own, *engine, *rest]


def _chart(panel: Panel, stage: Stage) -> Chart:
    series = [
        Series(label, *stage.series(metric), colour, _band(stage, metric))
        for colour, (metric, label) in enumerate(panel.metrics.items(), start=1)
    ]
    axis = "round" if stage.name == ROUNDS_STAGE else "step"
    lines = dict(panel.lines)
    baseline = stage.length_baseline()
    if "val_accuracy" in panel.metrics and stage.name in JUDGES and baseline is not None:
        lines = {f"the {baseline[0]} reply wins": baseline[1]}
    marks = [
        (step, f"{alarm.get('name')}: {alarm.get('sentence')}")
        for alarm in stage.alarms
        if (step := number(alarm.get("step"))) is not None
    ]
    return Chart(
        panel.title, series, panel.unit, axis, panel.percent, panel.zero, lines, tuple(marks)
    )


def _band(stage: Stage, metric: str) -> list[tuple[float, float]]:
    """The intervals of a metric, where each of its points has one."""
    steps, low, high = (stage.series(f"{metric}{end}") for end in ("", "_low", "_high"))
    whole = steps[0] == low[0] == high[0]
    return list(zip(low[1], high[1], strict=True)) if whole else []


def _reward_for_kl(stage: Stage) -> Markup:
    """Reward over the distance paid for it (Gao et al., 2023): a leash that is worth its length."""
    rows = [e.metrics for e in stage.entries if {"reward", "kl"} <= set(e.metrics)]
    curves: list[Series] = []
    for colour, (metric, label) in enumerate(ONLINE[0].metrics.items(), start=1):
        points = sorted((r["kl"], r[metric]) for r in rows if metric in r and r["kl"] >= 0)
        finite = [p for p in points if all(number(v) is not None for v in p)]
        curves.append(Series(label, [x for x, _ in finite], [y for _, y in finite], colour))
    if not any(len(curve.x) > 1 for curve in curves):
        return Markup()
    note = "Where held-out reward bends down while reward climbs, the reward model may be gamed."
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
    said = stage.summary.get("scores")
    if isinstance(said, dict):
        groups = {str(k): _numbers(v) for k, v in said.items()}
    else:
        steps = sorted({s["step"] for s in stage.samples if number(s.get("step")) is not None})
        ends = [steps[0], steps[-1]] if len(steps) >= MOST_HISTOGRAM_STEPS else []
        groups = {
            f"step {step}": _numbers([s.get("score") for s in stage.samples if s["step"] == step])
            for step in ends
        }
    return histogram(groups, title="Scores of sampled answers" if not said else "Scores")


def _numbers(values: Sequence[object]) -> list[float]:
    return [v for v in map(number, values) if v is not None]
