"""Multiple choice: accuracy, and whether the policy is as sure as it is right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from backflip.evaluation.choices import choose
from backflip.evaluation.questions import Question
from backflip.evaluation.suites.base import Suite
from backflip.evaluation.suites.statistic import Measure, Rows, Statistic
from backflip.evaluation.suites.subject import Subject
from backflip.monitor.text import Estimate, beyond

BINS = 10


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Suite):
    """Accuracy and calibration of choices: a capability set before and after is alignment's tax.

    Confidence is the share of the choice among the given answers. Calibration error is the mean
    distance between confidence and accuracy in ten bins of equal mass (Guo et al., 2017).
    """

    title: ClassVar[str] = "accuracy and calibration on questions with given answers"
    needs: ClassVar[tuple[str, ...]] = ("question",)

    by: Literal["letter", "answer"] = "letter"
    """The letter of an answer in a conversation, or the answer's own text behind Q: and A:."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        questions = Question.all_of(data, subject.notes)
        chosen = choose(subject, [self._asked(question) for question in questions])
        return [
            {
                "id": q.number, "question": q.text, "said": q.options[c.best],
                "right": float(c.best in q.right), "confidence": float(c.shares[c.best]),
                "probability": float(sum(c.shares[k] for k in q.right)),
                "gap": float(c.shares[c.best]) - float(c.best in q.right),
                "chance": len(q.right) / len(q.options),
            }
            for q, c in zip(questions, chosen, strict=True)
        ]  # fmt: skip

    def statistics(self, rows: Rows) -> list[Statistic]:
        del rows
        return [
            Statistic("accuracy", "accuracy", "right"),
            Statistic("chance", "accuracy of guessing", "chance"),
            Statistic("probability", "probability of the right answers", "probability"),
            Statistic("confidence", "confidence in its choices", "confidence"),
            Statistic("overconfidence", "confidence less accuracy", "gap", kind="points"),
            Statistic("calibration_error", "expected calibration error", "confidence", of=_error),
        ]

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        del rows
        named = {m.statistic.name: m for m in measures}
        over = named["overconfidence"].value
        chance = named["chance"].value.estimate
        found: list[str] = []
        if beyond(Estimate.of(named["accuracy"].value), chance) <= 0:
            found.append("The choices are not clearly better than guessing.")
        if way := beyond(Estimate.of(over), 0.0):
            word = "surer" if way > 0 else "less sure"
            found.append(f"It is {word} of its choices than they are right.")
        return found

    def _asked(self, question: Question) -> tuple[Any, list[str]]:
        if self.by == "letter":
            return question.choice()
        return f"Q: {question.text}\nA:", [f" {option}" for option in question.options]


def _error(rows: Rows) -> float:
    if not rows:
        return math.nan
    confidence = np.array([row["confidence"] for row in rows])
    right = np.array([row["right"] for row in rows])
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(BINS, len(rows)))
    return sum(abs(float((confidence[p] - right[p]).sum())) for p in parts) / len(rows)
