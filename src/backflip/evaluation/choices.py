"""Choices among given answers by a model's probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backflip.data.records import Messages
from backflip.evaluation.suites.subject import Subject

__all__ = ["Choice", "choose", "letters"]


@dataclass(frozen=True)
class Choice:
    """A model's probabilities of the answers to one question."""

    logp: NDArray[np.float64]
    """log P(answer | question), in nats."""
    tokens: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """P(answer) among those that are given."""
        exp = np.exp(self.logp - self.logp.max())
        return exp / exp.sum()

    @property
    def best(self) -> int:
        """The likeliest answer, the first of equals."""
        return int(self.logp.argmax())


def choose(
    subject: Subject, questions: Sequence[tuple[Messages | str, Sequence[str]]]
) -> list[Choice]:
    """Read all answers to all questions; several are read in one pass."""
    pairs = [(context, answer) for context, answers in questions for answer in answers]
    readings = iter(subject.readings(pairs))
    found: list[Choice] = []
    for _, answers in questions:
        some = [next(readings) for _ in answers]
        found.append(Choice(np.array([r.logp for r in some]), np.array([r.tokens for r in some])))
    return found


def letters(count: int) -> list[str]:
    """(A), (B), …."""
    return [f"({chr(ord('A') + place)})" for place in range(count)]


def options_of(row: Mapping[str, Any], column: str) -> dict[str, int]:
    """Answers with 1 for right and 0 for wrong: a mapping, or Hugging Face's choices and labels."""
    value = row.get(column, row.get(f"{column}_targets"))
    if isinstance(value, Mapping) and "choices" in value:
        return dict(zip(value["choices"], map(int, value["labels"]), strict=True))
    return {str(answer): int(right) for answer, right in (value or {}).items()}
