"""Courses of runs against a proxy: gold and proxy over KL, where gold turned, what rang before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backflip.functional.overoptimization import GoldCurve, binned, fit_course
from backflip.functional.statistics import Interval, mean_interval
from backflip.monitor.alarms import trust_lost
from backflip.monitor.log import ALARMS, read_lines, read_metrics
from backflip.monitor.text import number

__all__ = ["BIN", "Course", "curve_json"]

BIN = 5
"""Steps of training averaged into a point of a curve."""
WITHIN = 1.1
"""KL of an alarm over that of gold's peak, up to which it came in time."""
SURE = 2.0
"""Standard errors of a difference beyond which gold rose or fell."""


@dataclass(frozen=True)
class Course:
    """What a run did to proxy and gold, step by step; all numbers are of its own answers."""

    kl: Sequence[float]
    gold: Sequence[float]
    proxy: Sequence[float]
    alarms: Sequence[Mapping[str, Any]]
    """Those that had neither the gold nor anything made of it."""

    @staticmethod
    def of(run: Path) -> Course:
        """The course that a run has on record. A reward that is the gold itself is both."""
        entries = [e.metrics for e in read_metrics(run) if "reward" in e.metrics]
        proxy = [e.get("reward_unshaped", e["reward"]) for e in entries]
        gold = [e.get("gold", p) for e, p in zip(entries, proxy, strict=True)]
        rung = [a for a in read_lines(run / ALARMS) if trust_lost([a], gold=False)]
        return Course([e["kl"] for e in entries], gold, proxy, rung)

    @property
    def points(self) -> tuple[list[float], list[float], list[float]]:
        """(√KL, gold, proxy), each a mean over ``BIN`` steps."""
        d, gold = binned(self.kl, self.gold, BIN)
        return d.tolist(), gold.tolist(), binned(self.kl, self.proxy, BIN)[1].tolist()

    @property
    def curve(self) -> GoldCurve | None:
        """Gao's form through the gains of gold over the first point."""
        d, gold, _ = self.points
        if not d:
            return None
        import numpy as np

        return fit_course(np.array(d[1:]), np.array(gold[1:]) - gold[0])

    @property
    def peak(self) -> int:
        """The point at which gold, averaged over three of them, is highest."""
        gold = self.points[1]
        return max(range(len(gold)), key=lambda i: mean(gold[max(i - 1, 0) : i + 2]))

    def change(self, start: int, end: int) -> Interval:
        """Gold around ``end`` less that around ``start``, with Welch's error of their means."""
        spans = [self.gold[max(p - 1, 0) * BIN : (p + 2) * BIN] for p in (start, end)]
        errors = [standard_error(span) for span in spans]
        value, reach = mean(spans[1]) - mean(spans[0]), SURE * math.hypot(*errors)
        return Interval(value, value - reach, value + reach, 0.95, len(spans[0]))

    @property
    def start(self) -> Interval:
        """Gold over the first steps."""
        return mean_interval(self.gold[:BIN])

    @property
    def rose(self) -> Interval:
        """Gold from the start to its peak."""
        return self.change(0, self.peak)

    @property
    def fell(self) -> Interval:
        """Gold from its peak to the end."""
        return self.change(self.peak, len(self.points[1]) - 1)

    @property
    def first_alarm(self) -> int | None:
        """The step of the first counted alarm."""
        steps = [number(alarm.get("step")) for alarm in self.alarms]
        return min((int(step) for step in steps if step is not None), default=None)

    def kl_at(self, step: int) -> float:
        """KL around a step, in nats: a mean over ``BIN`` steps."""
        return mean(self.kl[max(step - BIN // 2 - 1, 0) : step + BIN // 2])

    def gold_at(self, step: int) -> Interval:
        """Gold around a step, over as many steps as ``change`` looks at."""
        half = 3 * BIN // 2
        end = min(step + half, len(self.gold))
        return mean_interval(self.gold[max(end - 2 * half, 0) : end])

    @property
    def in_time(self) -> bool | None:
        """Whether the first alarm came before the peak's KL, or within a tenth of it; None where
        gold did not fall.
        """
        if not self.fell.high < 0:
            return None
        step, top = self.first_alarm, self.points[0][self.peak] ** 2
        return step is not None and self.kl_at(step) <= WITHIN * top

    def to_json(self) -> dict[str, Any]:
        """Curves and findings, plain."""
        d, gold, proxy = self.points
        step = self.first_alarm
        return {
            "d": d,
            "gold": gold,
            "proxy": proxy,
            "curve": curve_json(self.curve),
            "steps": len(self.kl),
            "peak_d": d[self.peak],
            "rose": self.rose.as_json(),
            "fell": self.fell.as_json(),
            "end": self.gold_at(len(self.gold)).as_json(),
            "best": self.gold_at(min((self.peak + 2) * BIN, len(self.gold))).as_json(),
            "alarms": [{k: a.get(k) for k in ("step", "name", "sentence")} for a in self.alarms],
            "alarm_step": step,
            "alarm_d": None if step is None else math.sqrt(max(self.kl_at(step), 0.0)),
            "alarm_gold": None if step is None else self.gold_at(step).as_json(),
            "in_time": self.in_time,
        }


def curve_json(curve: GoldCurve | None) -> dict[str, Any] | None:
    """A fitted curve, plain; an end that is infinite is null."""
    if curve is None:
        return None
    named = {name: getattr(curve, name) for name in ("alpha", "beta", "peak")}
    said = {
        name: [v if math.isfinite(v) else None for v in (i.estimate, i.low, i.high)]
        for name, i in named.items()
    }
    return {"form": curve.form, "turned": curve.turned, "farthest": curve.farthest, **said}


def mean(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN without."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of values taken to be independent; NaN for fewer than two."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2:
        return math.nan
    middle = mean(known)
    return math.sqrt(sum((v - middle) ** 2 for v in known) / (len(known) - 1) / len(known))
