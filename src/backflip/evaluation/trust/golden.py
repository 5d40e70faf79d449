"""Golden rows: judgements that must be met, each failure listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backflip.evaluation.trust.pairs import JudgedPairs
from backflip.functional.statistics import Interval, share_interval

__all__ = ["Failure", "Golden", "measured_golden"]

SHOWN = 160
"""Characters of a text that are printed."""


@dataclass(frozen=True)
class Failure:
    """A golden pair that is ordered wrong, or not at all."""

    where: str
    """File and line."""
    by: float
    """Score of the answer that must win less that of the other; 0 or below."""
    prompt: str
    better: str
    worse: str


@dataclass(frozen=True)
class Golden:
    """Golden pairs and those of them that are not met."""

    source: str
    pairs: int
    accuracy: Interval
    failures: tuple[Failure, ...]
    unscored: int
    """Pairs with a score that is not a number, which is a failure too."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {
            "source": self.source,
            "pairs": self.pairs,
            **self.accuracy.named("accuracy"),
            "unscored": self.unscored,
            "failures": [vars(failure) for failure in self.failures],
        }


def measured_golden(source: str, pairs: JudgedPairs) -> Golden:
    """Each pair met or not; the worst failure first. A pair without a score is not met."""
    wrong = [number for number, by in enumerate(pairs.delta) if not by > 0]
    wrong.sort(key=lambda number: pairs.delta[number])
    right = np.concatenate([pairs.delta > 0, np.zeros(pairs.unscored, bool)])
    alone = pairs.prompt.max(initial=-1) + 1 + np.arange(pairs.unscored)
    return Golden(
        source=source,
        pairs=len(right),
        accuracy=share_interval(right, np.concatenate([pairs.prompt, alone])),
        failures=tuple(_failure(pairs, number) for number in wrong),
        unscored=pairs.unscored,
    )


def _failure(pairs: JudgedPairs, number: int) -> Failure:
    record, (better, worse) = pairs.records[number], pairs.answers[number]
    said = [_short(messages[-1].content) for messages in (record.prompt, better, worse)]
    return Failure(str(record.where), float(pairs.delta[number]), *said)


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= SHOWN else f"{plain[: SHOWN - 1]}…"
