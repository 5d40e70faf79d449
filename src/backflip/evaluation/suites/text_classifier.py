"""A classifier of texts, trained on a user's labels and measured on rows that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from backflip.errors import UserError
from backflip.evaluation.labelled import area, correlation, label_in, text_in, yes
from backflip.evaluation.suites.base import Suite
from backflip.evaluation.suites.statistic import Rows, Statistic
from backflip.evaluation.suites.subject import Subject
from backflip.reward.text_classifier import TextClassifier, out_of_fold
from backflip.text import counted

ENDING = ".npz"
MODULE = '''"""Rewards by a classifier of texts: reward={file}:score, or {file}:against."""

from pathlib import Path

from backflip.reward.text_classifier import TextClassifier

CLASSIFIER = TextClassifier.load(Path(__file__).with_suffix(".npz"))


def score(answer: str) -> float:
    """{what}"""
    return CLASSIFIER(answer)


def against(answer: str) -> float:
    """The same with its sign turned: for what answers should not be."""
    return -CLASSIFIER(answer)
'''
"""The file beside a classifier that a recipe takes as its reward."""


@dataclass(frozen=True, kw_only=True)
class LabelledTexts(Suite):
    """Trains a small linear classifier, in seconds, on texts that people labelled.

    In the place of a model stands the file to be written, FILE.npz; beside it comes FILE.py, which
    a recipe takes as ``reward=FILE.py:score``. All numbers are of rows that were kept apart: each
    text is judged by a classifier that has not seen it. What is written has seen all.
    """

    title: ClassVar[str] = "trains a classifier of texts on labels, measured on rows apart"
    asks: ClassVar[bool] = False

    text: str = ""
    """Column with the texts; text, comment, answer or prompt, if none is named."""
    label: str = ""
    """Column with the labels: toxic, label, mean, ratings … if none is named."""
    folds: int = 5
    """Parts of which each is judged by a classifier that was trained on the others."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        out = Path(subject.name).expanduser()
        if out.suffix != ENDING:
            raise UserError(
                f"{subject.name}: this suite trains a classifier. In the place of MODEL name the "
                "file to be written, such as toxicity.npz."
            )
        read = [(text_in(row, self.text), label_in(row, self.label)) for row in data]
        kept = [(text, label) for text, label in read if text is not None and label is not None]
        if lost := len(read) - len(kept):
            subject.notes.append(f"{counted(lost, 'row has', 'rows have')} no text or no label.")
        if not kept:
            raise UserError(
                "no row has a text and a label. Name the columns: text=COLUMN label=COLUMN."
            )
        texts = [text for text, _ in kept]
        targets, words = _targets([label for _, label in kept])
        # The same text twice would be judged by a classifier that knows it.
        scores = out_of_fold(texts, targets, texts, folds=self.folds)
        made = TextClassifier.fitted(texts, targets)
        out.parent.mkdir(parents=True, exist_ok=True)
        made.save(out)
        module = out.with_suffix(".py")
        what = f"P({made.labels[-1]})." if words else "The number that people would give it."
        module.write_text(MODULE.format(file=module.name, what=what), encoding="utf-8")
        subject.notes += [
            f"Trained on {counted(len(texts), 'text')} and written to {out}; as a reward: "
            f"reward={module}:score or {module}:against."
        ]
        return [
            {"id": n, "text": text, "label": target, "score": float(score[-1] - score[0])
             if len(score) == 2 else float(score[0]),
             "said": made.labels[int(score.argmax())] if words else None,
             "right": float(made.labels[int(score.argmax())] == target) if words else None,
             "sign": None if words or not target else float((score[0] > 0) == (target > 0))}
            for n, (text, target, score) in enumerate(zip(texts, targets, scores, strict=True))
        ]  # fmt: skip

    def statistics(self, rows: Rows) -> list[Statistic]:
        kinds = sorted({str(row["label"]) for row in rows})
        if rows[0]["said"] is None:
            return [
                Statistic("r", "correlation with people", kind="number", interval=_correlated),
                Statistic("sign", "sign as people's", "sign"),
            ]
        found = [Statistic("accuracy", "accuracy", "right")]
        if len(kinds) == 2:
            first = Statistic("auc", f"area under the curve, {kinds[1]} over {kinds[0]}",
                              interval=lambda some: _area(some, kinds[1]))  # fmt: skip
            return [first, *found]
        return found


def _targets(labels: Sequence[Any]) -> tuple[list[Any], bool]:
    """Classes as words, or numbers; whether they are words.

    Numbers of two kinds are classes: no and yes.
    """
    different = {str(label) for label in labels}
    numbers = all(isinstance(label, int | float) for label in labels)
    if numbers and len(different) > 2:
        return [float(label) for label in labels], False
    if numbers:
        return ["yes" if yes(label) else "no" for label in labels], True
    return [str(label) for label in labels], True


def _area(rows: Rows, positive: str) -> Any:
    return area([row["score"] for row in rows], [row["label"] == positive for row in rows])


def _correlated(rows: Rows) -> Any:
    return correlation([row["score"] for row in rows], [row["label"] for row in rows])
