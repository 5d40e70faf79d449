"""A gold that is watched beside the reward: its curve over √KL, fitted, and where it turns.

Gao et al. (2022) for reinforcement learning: R(d) = d (α − β log d), d = √KL from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from backflip.functional.overoptimization import GoldCurve, binned, fit_course
from backflip.monitor.alarms import trust_lost
from backflip.monitor.charts import Chart, Series, line_chart
from backflip.monitor.grown import grown
from backflip.monitor.run import Stage
from backflip.monitor.text import KL_BY_ANSWERS, apart, number

__all__ = [
    "DISTANCE",
    "fitted_series",
    "gold_charts",
    "gold_sentence",
    "grown_sentence",
    "trust_sentence",
]

POINTS = 40
"""Points of a curve, at most: each is a mean over some steps."""
DISTANCE = "d = √KL to the start, √nats"


@dataclass(frozen=True)
class _Watched:
    """Means of gold and reward over steps in a row, in the order of training."""

    d: Sequence[float]
    gold: Sequence[float]
    reward: Sequence[float]

    @staticmethod
    def of(stage: Stage) -> _Watched | None:
        """None where no gold was watched."""
        rows = [e.metrics for e in stage.entries if {"gold", "kl", "reward"} <= set(e.metrics)]
        rows = [r for r in rows if all(number(r[n]) is not None for n in ("gold", "kl", "reward"))]
        if len(rows) < 2:
            return None
        size, kl = max(1, len(rows) // POINTS), [r["kl"] for r in rows]
        own = [r.get("reward_unshaped", r["reward"]) for r in rows]
        d, gold = binned(kl, [r["gold"] for r in rows], size)
        return _Watched(d.tolist(), gold.tolist(), binned(kl, own, size)[1].tolist())

    @property
    def curve(self) -> GoldCurve | None:
        """Gao's form through the gains over the first point."""
        return fit_course(np.array(self.d[1:]), np.array(self.gold[1:]) - self.gold[0])


def gold_charts(stage: Stage) -> list[Markup]:
    """Gold over distance with its fitted curve, and the reward over the same distance."""
    watched = _Watched.of(stage)
    if watched is None:
        return []
    series = [_ordered("gold", watched.d, watched.gold, 1)]
    if (curve := watched.curve) is not None:
        series.append(fitted_series(curve, watched.gold[0], 2))
    note = f"d is made of {KL_BY_ANSWERS}. The fit is Gao et al.'s form for reinforcement learning."
    gold = Chart("Gold over distance", series, "score", DISTANCE, note=note)
    raised = [_ordered("reward", watched.d, watched.reward, 3)]
    reward = Chart("Reward over the same distance", raised, "score", DISTANCE)
    return [line_chart(gold), line_chart(reward)]


def fitted_series(curve: GoldCurve, start: float, colour: int) -> Series:
    """The fitted curve as a smooth line, from the start on."""
    at = [curve.farthest * i / POINTS for i in range(1, POINTS + 1)]
    return Series("fitted", at, [start + curve.at(d) for d in at], colour)


def gold_sentence(stage: Stage) -> str:
    """Where gold is highest by the fitted curve; empty where none was watched."""
    watched = _Watched.of(stage)
    if watched is None:
        return ""
    low, high = apart([watched.gold[0], watched.gold[-1]], digits=3)
    text = f"The gold that was watched went from {low} to {high}"
    if (curve := watched.curve) is None:
        return f"{text}; too few steps away from the start to fit a curve."
    far = f"{curve.farthest:.2f}"
    if not curve.turned:
        return f"{text}; within d = {far} √nats its fitted curve does not surely turn."
    at, start, end = apart([curve.peak.estimate, curve.peak.low, curve.peak.high], digits=2)
    return (
        f"{text}; its fitted curve is highest at d = {at} √nats of KL (95 % interval {start} to "
        f"{end}, if the form holds), and d reached {far}."
    )


def trust_sentence(stage: Stage) -> str:
    """The first step at which an alarm spoke against the reward itself; empty without one."""
    alarm = trust_lost(stage.alarms)
    step = None if alarm is None else number(alarm.get("step"))
    if alarm is None or step is None:
        return ""
    kl = next(
        (e.metrics["kl"] for e in stage.entries if e.step == step and "kl" in e.metrics), None
    )
    away = "" if number(kl) is None else f", {kl:.1f} nats away from the reference"
    return (
        f"Trust in the reward was lost first at step {step:.0f}{away}, by the alarm "
        f"{str(alarm.get('name')).replace('_', ' ')}: what the reward says of later steps needs "
        "another judge."
    )


def grown_sentence(stage: Stage) -> str:
    """Phrases of held-out answers that grew most since the start; empty where none surely did."""
    steps = sorted({int(s["step"]) for s in stage.samples if number(s.get("step")) is not None})
    if len(steps) < 2:
        return ""
    sets = [
        [str(s.get("answer") or "") for s in stage.samples if s.get("step") == step]
        for step in (steps[0], steps[-1])
    ]
    told = [
        f"“{p.words}” ({p.before} of {len(sets[0])} → {p.after} of {len(sets[1])} answers)"
        for p in grown(*sets, most=3)
    ]
    if not told:
        return ""
    return f"Phrases that grew most from step {steps[0]} to {steps[-1]}: {', '.join(told)}."


def _ordered(name: str, x: Sequence[float], y: Sequence[float], colour: int) -> Series:
    """A curve by ascending distance; a run may come back."""
    points = sorted(zip(x, y, strict=True))
    return Series(name, [a for a, _ in points], [b for _, b in points], colour)
