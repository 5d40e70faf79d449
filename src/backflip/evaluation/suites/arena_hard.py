"""Arena-Hard: against a baseline in both orders, with grades of winning (Li et al., 2024)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, ClassVar, cast, final

import numpy as np

from backflip.data.records import Message, Messages
from backflip.errors import UserError
from backflip.evaluation.answer_files import answers_by, conversation, key_of, turns_of
from backflip.evaluation.pairwise import By, Pair, cleaned_for, judge_by, shown
from backflip.evaluation.style import FEATURES, StyleControlled, features, style, style_controlled
from backflip.evaluation.suites.base import Suite, Table
from backflip.evaluation.suites.scorer import Scorer, heard, judge_named
from backflip.evaluation.suites.statistic import Measure, Rows, Statistic
from backflip.evaluation.suites.subject import Asking, Subject
from backflip.functional.statistics import Interval, wilson_bounds
from backflip.monitor.text import Estimate, beyond, share_ranged
from backflip.text import counted

__all__ = ["ArenaHard", "battles", "read_grade"]

STRONG = 3
"""Battles that a grade of much better counts for."""
GRADES = {"A>>B": 2, "A>B": 1, "A=B": 0, "B>A": -1, "B>>A": -2}
TURNED = {"B<<A": 2, "B<A": 1, "B=A": 0, "A<B": -1, "A<<B": -2}
MARK = re.compile(r"\[\[\s*([AB])\s*(>>|>|=|<<|<)\s*([AB])\s*\]\]")
TASK = (
    "First say in a few sentences how you would answer yourself; then compare both answers with "
    "that. End with a line of its own, one of: [[A>>B]] A is much better, [[A>B]] A is slightly "
    "better, [[A=B]] about the same, [[B>A]] B is slightly better, [[B>>A]] B is much better."
)


def read_grade(text: str) -> int | None:
    """2, 1, 0, −1 or −2 for A, by the last mark such as [[A>>B]]; None where there is none."""
    found = MARK.findall(text)
    return None if not found else (GRADES | TURNED).get("".join(found[-1]))


def battles(grade: int) -> tuple[float, int]:
    """(Battles won, battles fought): 1 battle, or 3 where one side is much better."""
    fought = STRONG if abs(grade) == 2 else 1
    return fought * (math.copysign(1, grade) + 1) / 2 if grade else 0.5, fought


@final
@dataclass(frozen=True, kw_only=True)
class ArenaHard(Suite):
    """Share of battles won against the baseline, and with style alike; a board, where the data
    hold the judgments of several models.
    """

    title: ClassVar[str] = "Arena-Hard: against a baseline, by a judge"

    judge: str = ""
    """Who compares: a language model or a reward model."""
    baseline: str = ""
    """A model, or a file of its answers."""
    answers: str = ""
    """A file of MODEL's answers, in place of asking it."""
    by: By = "words"
    """A language model's verdict: what it writes, in five grades, or the probabilities of A and B,
    which know no grades."""
    judge_tokens: int = 512
    """Longest reply of the judge, in tokens."""
    seed: int = 0
    """Of the bootstrap."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A row for each question and model; judgments that the data hold are taken from there."""
        if any("games" in row for row in data):
            return _recorded(subject, data)
        if not self.judge or not self.baseline:
            lacking = "judge=MODEL" if not self.judge else "baseline=MODEL (or a file of answers)"
            raise UserError(f"suite arena_hard: give {lacking}.")
        rows = {key_of(row, place): row for place, row in enumerate(data) if turns_of(row)}
        questions = {key: turns_of(row) for key, row in rows.items()}
        if not questions:
            raise UserError("suite arena_hard: rows need prompt (or turns) and uid.")
        mine = answers_by(self.answers or subject, questions)
        theirs = answers_by(self.baseline, questions)
        keys = [key for key in questions if key in mine and key in theirs]
        subject.leave_out(len(data) - len(keys), "rows without both answers")
        judge = judge_named(self.judge, Asking(max_tokens=self.judge_tokens))
        pairs = [
            Pair(conversation(questions[key], mine[key][:-1]), mine[key][-1], theirs[key][-1])
            for key in keys
        ]
        turned = [Pair(pair.prompt, pair.second, pair.first) for pair in pairs]
        grades = self._grades(judge, [*pairs, *turned])
        heard(subject, judge, grades, "Try by=token, or more judge_tokens.")
        found: list[dict[str, Any]] = []
        for place, (key, pair) in enumerate(zip(keys, pairs, strict=True)):
            swapped = grades[len(pairs) + place]
            both = (grades[place], None if swapped is None else -swapped)
            different = features(style(pair.first), style(pair.second))
            found.append({
                "id": key, "group": key, "model": subject.name,
                "category": str(rows[key].get("category", "")), **_fought(both),
                **dict(zip(FEATURES, different, strict=True)), "answer": pair.first,
            })  # fmt: skip
        return found

    def _grades(self, judge: Subject, pairs: Sequence[Pair]) -> list[int | None]:
        """The grade of each pair, for its first answer."""
        if isinstance(judge, Scorer) or self.by == "token":
            said = judge_by(judge, self.by)(pairs)
            return [None if v is None else int(np.sign(v - 0.5)) for v in said]
        clean = cleaned_for(judge)
        asked: list[Messages] = [(Message("user", shown(pair, clean) + TASK),) for pair in pairs]
        return [read_grade(texts[0]) if texts else None for texts in judge.answers(asked)]

    def statistics(self, rows: Rows) -> list[Statistic]:
        """Of each model: battles won, and with style alike where answers are at hand."""
        models = list(dict.fromkeys(row["model"] for row in rows))
        found: list[Statistic] = []
        for place, model in enumerate(models):
            many = len(models) > 1
            prefix, before = (f"{model}/", f"{model}, ") if many else ("", "")
            found.append(Statistic(
                f"{prefix}score", f"{before}battles won", "fought", {"model": model},
                interval=_won, paired=False,
            ))  # fmt: skip
            alike = _alike(rows, self.seed)
            if alike is not None:
                value = _interval(alike, place, _won(_judged(rows, model)))
                found.append(Statistic(
                    f"{prefix}style_controlled", f"{before}battles won, style alike", paired=False,
                    interval=lambda _, value=value: value,
                ))  # fmt: skip
        if len(models) == 1:
            found += [
                Statistic("agree", "same winner in both orders", "agree"),
                Statistic("first", "verdicts for the answer shown first", "first"),
            ]
        return found

    def tables(self, rows: Rows) -> list[Table]:
        """The board."""
        models = list(dict.fromkeys(row["model"] for row in rows))
        if len(models) < 2:
            return []
        scores = {model: _won(_judged(rows, model)) for model in models}
        order = sorted(models, key=lambda model: -scores[model].estimate)
        lines = [(m, *share_ranged(Estimate.of(scores[m])), str(scores[m].units)) for m in order]
        heads = ("model", "#battles won", "95 % interval", "#questions")
        records = [{"model": model, **scores[model].named("score")} for model in order]
        drawn = [Measure(Statistic(model, model), scores[model]) for model in order]
        return [Table("board", "Board against the baseline", heads, lines, records, drawn)]

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        """What the judge did not say, what sways it, and what style is worth."""
        found: list[str] = []
        first = next((m.value for m in measures if m.statistic.name == "first"), None)
        if first is not None and (way := beyond(Estimate.of(first), 0.5)):
            number, ends = share_ranged(Estimate.of(first), beside=(0.5,))
            side = "first" if way > 0 else "second"
            found.append(
                f"The judge leans to the answer shown {side} (first: {number}, {ends}), which "
                "pulls the share of battles to one half."
            )
        silent = sum(row["given"] is None or row["swapped"] is None for row in rows)
        if silent:
            found.append(
                f"No grade in one order or both for {silent} of {counted(len(rows), 'question')}: "
                "those are left out, as the benchmark does."
            )
        alike = _alike(rows, self.seed)
        if alike is not None:
            worth = ", ".join(
                f"{name} {value:+.2f}"
                for name, value in zip(FEATURES, alike.coefficients, strict=True)
            )
            found.append(
                "Style alike: the same length in characters and the same Markdown as the baseline. "
                f"A standard deviation of each is worth, in log odds: {worth}."
            )
        return found


def _recorded(subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Judgments as Arena-Hard keeps them: two games, in the first of which the baseline is A."""
    found: list[dict[str, Any]] = []
    kept = [row for row in data if len(cast("Sequence[Any]", row.get("games") or ())) == 2]
    subject.leave_out(len(data) - len(kept), "rows without two games")
    for place, row in enumerate(kept):
        grades = [_graded(game) for game in cast("Sequence[Any]", row["games"])]
        both = (grades[1], None if grades[0] is None else -grades[0])
        model, key = str(row.get("model", "the model")), key_of(row, place)
        found.append({
            "id": f"{model}/{key}", "group": key, "model": model,
            "category": str(row.get("category", "")), **_fought(both),
        })  # fmt: skip
    if not found:
        raise UserError("suite arena_hard: no row holds two games.")
    return found


def _graded(game: Any) -> int | None:
    score = cast("Mapping[str, Any]", game).get("score") if isinstance(game, Mapping) else None
    return (GRADES | TURNED).get(str(score))


def _fought(grades: tuple[int | None, int | None]) -> dict[str, Any]:
    """Battles of one question: order as given and swapped, both for the model; both or none."""
    given, swapped = grades
    found: dict[str, Any] = {"given": given, "swapped": swapped}
    if given is None or swapped is None:
        return found | {"won": None, "fought": None, "agree": None, "first": None}
    one, other = battles(given), battles(swapped)
    shown_first = [(g > 0) == first for g, first in ((given, True), (swapped, False)) if g]
    return found | {
        "won": one[0] + other[0], "fought": one[1] + other[1],
        "agree": float(np.sign(given) == np.sign(swapped)),
        "first": sum(shown_first) / len(shown_first) if shown_first else None,
    }  # fmt: skip


def _judged(rows: Rows, model: str) -> list[Any]:
    return [row for row in rows if row["model"] == model and row["fought"] is not None]


def _won(rows: Rows) -> Interval:
    """Battles won per battle, of one model, with Wilson's interval at the number of battles that
    the spread over questions is worth.
    """
    won, fought = (np.array([row[name] for row in rows], float) for name in ("won", "fought"))
    if not len(won):
        return Interval(math.nan, 0.0, 1.0, 0.95, 0)
    rate, count = float(won.sum() / fought.sum()), len(won)
    spread = float(((won - rate * fought) / fought.mean()).var()) / count
    worth = min(rate * (1 - rate) / spread, fought.sum()) if spread > 0 else count
    low, high = wilson_bounds(rate, max(worth, 1.0), NormalDist().inv_cdf(0.975))
    return Interval(rate, float(low), float(high), 0.95, count)


def _alike(rows: Rows, seed: int) -> StyleControlled | None:
    """Win rates with style alike; None where the answers are not at hand."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    judged = [row for row in rows if row["fought"] is not None]
    if not judged or any("length" not in row for row in judged):
        return None
    names = ("model", "group", "won", "fought", *FEATURES)
    values = tuple(tuple(row[name] for name in names) for row in judged)
    return _remembered(values, tuple(models), seed)


@lru_cache(maxsize=2)
def _remembered(
    rows: tuple[tuple[Any, ...], ...], models: tuple[str, ...], seed: int
) -> StyleControlled:
    """``style_controlled`` of these rows, which numbers and sentences both ask for."""
    number = {name: place for place, name in enumerate(models)}
    asked = {name: place for place, name in enumerate(dict.fromkeys(row[1] for row in rows))}
    won, fought = (np.array([row[place] for row in rows], float) for place in (2, 3))
    return style_controlled(
        np.array([number[row[0]] for row in rows]), np.array([asked[row[1]] for row in rows]),
        won / fought, fought, np.array([row[4:] for row in rows], float), models=len(models),
        seed=seed,
    )  # fmt: skip


def _interval(alike: StyleControlled, place: int, plain: Interval) -> Interval:
    """A rate with style alike; never held to be surer than the rate without."""
    value = float(alike.rates[place])
    low, high = (float(end) for end in np.quantile(alike.drawn[:, place], (0.025, 0.975)))
    low = min(low, value - (plain.estimate - plain.low))
    high = max(high, value + (plain.high - plain.estimate))
    return Interval(value, max(low, 0.0), min(high, 1.0), 0.95, plain.units)
