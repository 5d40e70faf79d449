"""Evaluation of process reward models: single steps, and where solutions go wrong first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backflip.data.solution_batches import SolutionBatch
from backflip.errors import UserError
from backflip.functional.process import first_error
from backflip.functional.statistics import (
    Interval,
    finite,
    jackknife_interval,
    mean_interval,
    share_interval,
)
from backflip.models.process import ProcessModel
from backflip.monitor.text import TOO_FEW, Estimate, beyond
from backflip.text import counted

__all__ = ["ProcessReport", "evaluate_process_model", "process_report"]

Numbers = NDArray[np.float64]
SURE = 1e-7
"""P(good) is not taken for surer than this, so that a log-loss is finite."""


@dataclass(frozen=True)
class ProcessReport:
    """Measurements of a process reward model on labelled solutions.

    All intervals go by question: solutions of one question, and steps of a solution, are not
    independent.
    """

    questions: int
    solutions: int
    steps: int
    """Labelled steps."""
    good: float
    """Share of these that are good: the accuracy of calling every step good."""
    accuracy: Interval
    """Share of steps on the right side of the threshold."""
    over_constant: Interval
    """Accuracy less that of calling all steps what most are."""
    log_loss: Interval
    """Cross-entropy to the labels, nats per step."""
    erroneous: Interval
    """Share of solutions with an error whose first one is found, and none before it."""
    correct: Interval
    """Share of solutions without an error in which none is found."""
    f1: Interval
    """Harmonic mean of the two (ProcessBench: Zheng et al., 2024)."""
    decided: tuple[int, int]
    """Solutions with a known first error, and without any."""
    threshold: float
    """P(good) below which a step is called wrong."""
    sentences: tuple[str, ...] = ()
    """Remarks on the numbers, in words."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite; keys as in a run's ``summary.json``."""
        return {
            "questions": self.questions,
            "solutions": self.solutions,
            "steps_judged": self.steps,
            "good": finite(self.good),
            **self.accuracy.named("accuracy"),
            **self.over_constant.named("over_constant"),
            **self.log_loss.named("log_loss"),
            **self.erroneous.named("first_error_found"),
            **self.correct.named("no_error_found"),
            **self.f1.named("f1"),
            "with_error": self.decided[0],
            "without_error": self.decided[1],
            "threshold": self.threshold,
            "sentences": list(self.sentences),
        }


def evaluate_process_model(
    model: ProcessModel, batch: SolutionBatch, *, threshold: float = 0.5, token_budget: int = 4096
) -> ProcessReport:
    """Judge every labelled step once and compare with its label."""
    estimates = model.of_batch(batch, token_budget)
    return process_report(estimates, batch, neutral=model.neutral, threshold=threshold)


def process_report(
    estimates: Sequence[Sequence[float]],
    batch: SolutionBatch,
    *,
    neutral: float = 1.0,
    threshold: float = 0.5,
) -> ProcessReport:
    """The same from P(good) of each labelled step. Raises UserError for an impossible threshold."""
    _check_threshold(threshold)
    question = _questions(batch)
    group = question[batch.ends.owner().numpy()]
    labels = batch.labels.values
    target = (labels[:, 2] + neutral * labels[:, 1]).double().numpy()
    said = np.asarray([p for row in estimates for p in row], dtype=np.float64)
    right = ((said >= threshold) == (target >= 0.5)).astype(np.float64)
    good = float((target >= 0.5).mean())
    constant = (target >= 0.5) == (good >= 0.5)
    found = _first_errors(estimates, batch, target, threshold)
    erroneous, correct = (
        {k: v for k, v in found.items() if k[1] is side} for side in (True, False)
    )
    report = ProcessReport(
        questions=len(np.unique(question)),
        solutions=len(batch),
        steps=len(said),
        good=good,
        accuracy=share_interval(right, group),
        over_constant=mean_interval(right - constant, group),
        log_loss=mean_interval(_log_loss(said, target), group, within=(0.0, math.inf)),
        erroneous=_share(erroneous, question),
        correct=_share(correct, question),
        f1=_f1(erroneous, correct, question),
        decided=(len(erroneous), len(correct)),
        threshold=threshold,
    )
    return replace(report, sentences=tuple(_remarks(report)))


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise UserError(f"threshold is {threshold:g}; it must lie between 0 and 1.")


def _log_loss(said: Numbers, target: Numbers) -> Numbers:
    sure = said.clip(SURE, 1 - SURE)
    return -(target * np.log(sure) + (1 - target) * np.log1p(-sure))


Found = dict[tuple[int, bool], float]
"""By the number of a solution and whether it has an error: 1 where that was found out."""


def _first_errors(
    estimates: Sequence[Sequence[float]], batch: SolutionBatch, target: Numbers, threshold: float
) -> Found:
    """Solutions whose first error is known, or known not to be, against what was found."""
    found: Found = {}
    offsets = batch.ends.offsets.tolist()
    for row, said in enumerate(estimates):
        labels = target[offsets[row] : offsets[row + 1]].tolist()
        places = batch.number.row(row).tolist()
        true = first_error(labels)
        upto = len(labels) if true is None else true + 1
        whole = bool(batch.whole[row])
        if places[:upto] != list(range(upto)) or (true is None and not whole):
            continue
        found[row, true is not None] = float(first_error(said, threshold) == true)
    return found


def _questions(batch: SolutionBatch) -> NDArray[np.int64]:
    """[B] a number for each row's prompt, the same for rows that ask the same thing."""
    numbers: dict[tuple[int, ...], int] = {}
    prompts = [tuple(row.tolist()) for row in batch.steps.prompt.rows()]
    return np.asarray([numbers.setdefault(prompt, len(numbers)) for prompt in prompts])


def _share(found: Found, question: NDArray[np.int64]) -> Interval:
    if not found:
        return Interval(math.nan, 0.0, 1.0, 0.95, 0)
    return share_interval(list(found.values()), question[[row for row, _ in found]])


def _f1(erroneous: Found, correct: Found, question: NDArray[np.int64]) -> Interval:
    """The harmonic mean with the interval of its jackknife over questions."""
    if not erroneous or not correct:
        return Interval(math.nan, 0.0, 1.0, 0.95, 0)
    rows = [row for part in (erroneous, correct) for row, _ in part]
    numbers, group = np.unique(question[rows], return_inverse=True)
    with_error = np.arange(len(rows)) < len(erroneous)
    hits = np.asarray([*erroneous.values(), *correct.values()])
    sums = [
        (np.bincount(group, hits * side, len(numbers)), np.bincount(group, side, len(numbers)))
        for side in (with_error.astype(float), (~with_error).astype(float))
    ]
    without = [(h.sum() - h, n.sum() - n) for h, n in sums]
    with np.errstate(invalid="ignore", divide="ignore"):
        left = _harmonic(*(h / n for h, n in without))
    whole = _harmonic(*(np.asarray(h.sum() / n.sum()) for h, n in sums))
    return jackknife_interval(float(whole), left, within=(0.0, 1.0))


def _harmonic(a: Numbers, b: Numbers) -> Numbers:
    total = a + b
    return np.where(total > 0, 2 * a * b / np.where(total > 0, total, 1.0), 0.0)


def _remarks(said: ProcessReport) -> list[str]:
    found = list[str]()
    if not all(said.decided):
        lacks = "with an error" if said.decided[1] else "without an error"
        found.append(f"No solution {lacks} is among them, so there is no F1 of first errors.")
    way = beyond(Estimate.of(said.over_constant), 0.0)
    common = "good" if said.good >= 0.5 else "bad"
    if said.accuracy.enough and way <= 0:
        less = "less often right than" if way < 0 else "not surely more often right than"
        found.append(f"It is {less} calling every step {common}.")
    if not said.accuracy.enough:
        steps, questions = counted(said.steps, "step"), counted(said.questions, "question")
        found.append(f"Only {steps} of {questions} measured: {TOO_FEW}.")
    return found
