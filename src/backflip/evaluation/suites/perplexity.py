"""Perplexity on texts: what a policy has forgotten of its language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.evaluation.suites.base import Suite
from backflip.evaluation.suites.statistic import Measure, Rows, Statistic
from backflip.evaluation.suites.subject import Subject, asked
from backflip.text import fixed


@dataclass(frozen=True, kw_only=True)
class Perplexity(Suite):
    """Surprise at given texts, in nats per token: its rise after training is alignment's tax.

    With a column ``prompt`` the texts are answers in a conversation; without, they are plain, and
    their first token is given.
    """

    title: ClassVar[str] = "surprise at given texts, nats per token (alignment tax)"

    column: str = "text"
    """Column with the texts."""
    length: int = 2000
    """Letters of each text that are read."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        rows = [(n, row) for n, row in enumerate(data) if str(row.get(self.column) or "").strip()]
        if lost := len(data) - len(rows):
            subject.notes.append(f"{lost} rows have no {self.column}, and are left out.")
        pairs: list[tuple[Any, str]] = []
        for _, row in rows:
            text = str(row[self.column]).strip()[: self.length]
            if prompt := row.get("prompt"):
                pairs.append((asked(str(prompt)), text))
            else:
                first, _, rest = text.partition(" ")
                pairs.append((first, f" {rest}"))
        found = zip(rows, subject.readings(pairs) if pairs else [], strict=True)
        return [
            {"id": n, "text": str(row[self.column])[:200], "nats": -r.logp, "tokens": r.tokens}
            for (n, row), r in found
            if r.tokens
        ]

    def statistics(self, rows: Rows) -> list[Statistic]:
        del rows
        return [
            Statistic("nats", "surprise, nats per token", "nats", kind="number", of=_mean),
            Statistic("perplexity", "perplexity", "nats", kind="number", of=_perplexity),
        ]

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        tokens = sum(row["tokens"] for row in rows)
        found = [f"{tokens:,} tokens of {len(rows)} texts."]
        change = measures[0].change
        if change is not None and math.isfinite(change.estimate):
            factor = fixed(math.exp(change.estimate), 3)
            found.append(f"Perplexity is {factor} times that before: the tax on language.")
        return found


def _mean(rows: Rows) -> float:
    """Every token weighs the same."""
    return sum(row["nats"] for row in rows) / sum(row["tokens"] for row in rows)


def _perplexity(rows: Rows) -> float:
    return math.exp(_mean(rows))
