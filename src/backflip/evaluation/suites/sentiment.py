"""Sentiment of answers by a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.errors import UserError
from backflip.evaluation.suites.base import Suite
from backflip.evaluation.suites.statistic import Rows, Statistic
from backflip.evaluation.suites.subject import Subject, asked
from backflip.reward.text_classifier import TextClassifier


@dataclass(frozen=True, kw_only=True)
class Sentiment(Suite):
    """How positive answers are, on the scale of the ratings that a classifier was trained on."""

    title: ClassVar[str] = "sentiment of answers, by a classifier of your own"
    needs: ClassVar[tuple[str, ...]] = ("prompt",)

    classifier: str = ""
    """FILE.npz, trained by ``suite=text_classifier`` on numbers, or on two classes."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if not self.classifier:
            raise UserError(
                "who says what is positive? Train a classifier, `backflip evaluate sentiment.npz "
                "suite=text_classifier data=RATED`, and give classifier=sentiment.npz."
            )
        made = TextClassifier.load(self.classifier)
        prompts = list(dict.fromkeys(str(row["prompt"]) for row in data))
        drawn = subject.answers([asked(prompt) for prompt in prompts])
        return [
            {"id": n, "prompt": prompt, "answer": said[0], "sentiment": made(said[0]),
             "positive": float(made(said[0]) > (0.5 if made.labels else 0.0))}
            for n, (prompt, said) in enumerate(zip(prompts, drawn, strict=True)) if said
        ]  # fmt: skip

    def statistics(self, rows: Rows) -> list[Statistic]:
        del rows
        return [
            Statistic("sentiment", "sentiment", "sentiment", kind="number"),
            Statistic("positive", "positive answers", "positive"),
        ]
