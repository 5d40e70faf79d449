"""A run, whole or so far, as records: stages with metrics, samples, alarms and summaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backflip.monitor.log import Entry
from backflip.monitor.text import number


@dataclass(frozen=True)
class Stage:
    """Metrics, samples, alarms and summary of one stage."""

    name: str
    entries: Sequence[Entry]
    samples: Sequence[Mapping[str, Any]]
    alarms: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    algorithm: str = ""
    """The name of the algorithm, or else of the objective, in the recipe; empty without."""

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """Steps and values of a metric, where it was measured and finite."""
        points = [(float(e.step), e.metrics[metric]) for e in self.entries if metric in e.metrics]
        finite = [(step, value) for step, value in points if math.isfinite(value)]
        return [step for step, _ in finite], [value for _, value in finite]

    def last(self, metric: str) -> float | None:
        """The newest finite value of a metric; None where there is none."""
        values = self.series(metric)[1]
        return values[-1] if values else None

    def metrics(self) -> list[str]:
        """The names of all metrics, in the order of their first appearance."""
        return list(dict.fromkeys(name for e in self.entries for name in e.metrics))

    @property
    def seconds(self) -> float | None:
        """Time spent; None before the first step."""
        stated = number(self.summary.get("seconds"))
        return self.entries[-1].time if stated is None and self.entries else stated


@dataclass(frozen=True)
class Run:
    """A run read back: one stage, or a chain of them."""

    name: str
    folder: Path
    state: str
    """finished, running or unfinished."""
    stages: Sequence[Stage]
    recipe: str
    """The resolved recipe, as text."""
    environment: Mapping[str, Any]
    summary: Mapping[str, Any]

    def find(self, key: str) -> tuple[Stage | None, Any]:
        """The last stage whose summary has the key, and its value."""
        for stage in reversed(self.stages):
            if stage.summary.get(key) is not None:
                return stage, stage.summary[key]
        return None, self.summary.get(key)

    @property
    def seconds(self) -> float | None:
        """Of all stages together."""
        stated = number(self.summary.get("seconds"))
        spent = [s.seconds for s in self.stages if s.seconds is not None]
        return sum(spent) if stated is None and spent else stated


def algorithm_of(recipe: Mapping[str, Any]) -> str:
    """The name of the algorithm, or else of the objective, in a stage's recipe; empty without."""
    chosen = recipe.get("algorithm") or recipe.get("objective") or ""
    return str(chosen.get("name", "") if isinstance(chosen, Mapping) else chosen)
