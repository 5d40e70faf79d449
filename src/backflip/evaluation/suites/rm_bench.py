"""RM-Bench: three styles against three (Liu et al., 2024, arXiv:2410.16184)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from backflip.errors import UserError
from backflip.evaluation.pairwise import By
from backflip.evaluation.scored import Answers, scored, stratified
from backflip.evaluation.suites.base import Suite
from backflip.evaluation.suites.statistic import Measure, Rows, Statistic
from backflip.evaluation.suites.subject import Subject
from backflip.functional.statistics import Interval
from backflip.monitor.text import Estimate, beyond, ranged

__all__ = ["LEVELS", "RmBench", "styles"]

LEVELS = {
    "hard": "hard: the wrong answer is in the richer style",
    "normal": "normal: both are in the same style",
    "easy": "easy: the right answer is in the richer style",
}
SAFETY = ("safety-refuse", "safety-response")
"""Two halves of one domain."""


def styles(chosen: Sequence[float], rejected: Sequence[float]) -> dict[str, float]:
    """Shares of comparisons won, of scores in the order concise, detailed, detailed in Markdown.

    Right answer i beats wrong answer j where it scores higher; equal scores are a loss. hard is
    i < j, normal i = j, easy i > j.
    """
    beats = np.greater.outer(np.asarray(chosen, float), np.asarray(rejected, float))
    i, j = np.indices(beats.shape)
    return {
        "hard": float(beats[i < j].mean()), "normal": float(beats[i == j].mean()),
        "easy": float(beats[i > j].mean()),
    }  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True)
class RmBench(Suite):
    """Accuracy where style is against the right answer, beside it, and for it."""

    title: ClassVar[str] = "RM-Bench"
    scores: ClassVar[bool] = True

    by: By = "token"
    """How a language model rates answers, where MODEL is no reward model."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A row for each prompt, with three answers of either kind."""
        kept = [row for row in data if _three(row.get("chosen")) and _three(row.get("rejected"))]
        if not kept:
            raise UserError(
                "suite rm_bench: no row has lists of three chosen and three rejected answers, in "
                "the order concise, detailed, detailed in Markdown."
            )
        subject.leave_out(len(data) - len(kept), "rows without three chosen and three rejected")
        found: list[dict[str, Any]] = []
        answers = [Answers.of(row) for row in kept]
        for number, (row, said) in enumerate(
            zip(kept, scored(subject, answers, self.by), strict=True)
        ):
            known = [score for score in said if score is not None]
            whole = len(known) == 6
            levels = styles(known[:3], known[3:]) if whole else dict.fromkeys(LEVELS)
            found.append({
                "id": str(row.get("id", number)), "domain": str(row.get("domain", "")), **levels,
                "mean": sum(levels[name] or 0.0 for name in LEVELS) / 3 if whole else None,
            })  # fmt: skip
        return found

    def statistics(self, rows: Rows) -> list[Statistic]:
        """Means over domains, by level; and each domain's own mean of the three."""
        present = list(dict.fromkeys(row["domain"] for row in rows))
        weights = _weights(present)

        def over(column: str) -> Any:
            def interval(some: Rows) -> Interval:
                return stratified(some, weights, column=column, by="domain")

            return interval

        found = [Statistic("score", "RM-Bench score, mean over domains", interval=over("mean"),
                           paired=False)]  # fmt: skip
        found += [
            Statistic(name, label, interval=over(name), paired=False)
            for name, label in LEVELS.items()
        ]
        return found + [
            Statistic(f"domain_{name}", f"domain {name}", "mean", {"domain": name})
            for name in present if name
        ]  # fmt: skip

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        """How far style sways the scores."""
        found: list[str] = []
        by_name = {m.statistic.name: Estimate.of(m.value) for m in measures}
        hard, easy = by_name["hard"], by_name["easy"]
        if beyond(hard, 0.5) < 0:
            number = ranged(hard, digits=1, percent=True, beside=(0.5,))[0]
            found.append(
                f"Style outweighs being right: {number} % where the wrong answer is the richer one."
            )
        if hard.enough and easy.enough and hard.high < easy.low:
            found.append("Its scores rise with detail and Markdown: easy lies beyond hard.")
        if silent := sum(row["mean"] is None for row in rows):
            found.append(
                f"{silent} of {len(rows)} prompts have an answer without a score: left out."
            )
        return found


def _weights(present: Sequence[str]) -> dict[str, float]:
    """Domains weigh the same; the two halves of safety make one."""
    halves = sum(name in SAFETY for name in present)
    return {name: 1 / halves if name in SAFETY else 1.0 for name in present}


def _three(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3
