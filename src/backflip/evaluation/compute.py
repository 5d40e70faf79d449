"""Test-time compute: accuracy over tokens of everything that may be done with more of them.

Best-of-n, votes and pass@k of every n are expectations over the draws of n of the N answers to a
question, so that every answer serves every n. One question is one unit of every interval.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import torch

from backflip.functional.best_of_n import best_of_n_mean
from backflip.functional.pass_at_k import majority, majority_at_k, pass_at_k
from backflip.functional.process import AGGREGATES, Aggregate, aggregated
from backflip.functional.statistics import Interval, share_interval

__all__ = ["DRAWS", "WEIGHED", "ComputePoint", "Question", "compute_curves"]

Way: TypeAlias = Callable[["Question", int], float]
"""Expected value of choosing among n of the answers to a question."""
DRAWS = 300
"""Draws of n answers by which a weighted vote is estimated where there are more of them."""
ANY = "any right (pass@k)"
WEIGHED = "weighted vote"


@dataclass(frozen=True)
class Question:
    """N answers to one question."""

    right: tuple[float, ...]
    """1 for each that is right, else 0; equal final answers have equal numbers."""
    finals: tuple[Hashable, ...]
    """Final answers, by which votes are counted; None abstains."""
    tokens: tuple[int, ...]
    """Lengths."""
    good: tuple[tuple[float, ...], ...] = ()
    """P(good) of the steps of each answer; empty without a process model."""


@dataclass(frozen=True)
class ComputePoint:
    """Accuracy of one way of spending so many tokens."""

    method: str
    budget: int
    """Answers, beams or continuations."""
    tokens: float
    """Written for a question, on average."""
    accuracy: Interval
    """Over questions."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite."""
        named = self.accuracy.named("accuracy")
        return {"method": self.method, "budget": self.budget, "tokens": self.tokens} | named


def compute_curves(questions: Sequence[Question]) -> list[ComputePoint]:
    """A point for each way and each n of 1, 2, 4 … N."""
    most = min(len(question.right) for question in questions)
    sizes = sorted({2**i for i in range(most.bit_length())} | {most})
    each = sum(sum(q.tokens) / len(q.tokens) for q in questions) / len(questions)
    ways: dict[str, Way] = {ANY: _any, "majority": _voted}
    if all(question.good for question in questions):
        for how in AGGREGATES:
            ways[f"best of n, {how}"] = _best_by(how)
        ways[WEIGHED] = _weighed
    found: list[ComputePoint] = []
    for name, way in ways.items():
        for n in sizes:
            shares = share_interval([way(question, n) for question in questions])
            found.append(ComputePoint(name, n, n * each, shares))
    return found


def _any(question: Question, n: int) -> float:
    return float(pass_at_k(len(question.right), round(sum(question.right)), n))


def _voted(question: Question, n: int) -> float:
    return majority_at_k(question.finals, question.right, n)


def _best_by(how: Aggregate) -> Way:
    def way(question: Question, n: int) -> float:
        scores = torch.tensor([aggregated(good, how) for good in question.good])
        return float(best_of_n_mean(scores, torch.tensor(question.right), n=n))

    return way


def _weighed(question: Question, n: int) -> float:
    """A vote weighed by the weakest step; over all draws of n, or ``DRAWS`` of them."""
    weights = [aggregated(good, "min") for good in question.good]
    value = dict(zip(question.finals, question.right, strict=True))
    places = range(len(weights))
    if math.comb(len(weights), n) <= DRAWS:
        draws = list(combinations(places, n))
    else:
        rng = random.Random(n)
        draws = [tuple(rng.sample(places, n)) for _ in range(DRAWS)]
    total = 0.0
    for draw in draws:
        chosen = majority([question.finals[i] for i in draw], [weights[i] for i in draw])
        total += sum(chance * value[final] for final, chance in chosen.items())
    return total / len(draws)
