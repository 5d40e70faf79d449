"""Answers scored for a benchmark of reward models: by a reward model, by what a trained policy
implies, by a language model that judges, or as the data have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, cast

import numpy as np

from backflip.data.records import Message, Messages
from backflip.errors import UserError
from backflip.evaluation.pairwise import By, ModelJudge, Pair, both_orders, cleaned_for
from backflip.evaluation.suites.scorer import Scorer
from backflip.evaluation.suites.subject import Subject, asked
from backflip.functional.statistics import Interval, wilson_bounds
from backflip.reward.judge import RUBRIC, read_score
from backflip.text import counted

__all__ = ["Answers", "scored", "stratified"]

SCORES = ("scores_chosen", "scores_rejected"), ("score_chosen", "score_rejected")
"""Columns of scores that somebody else gave."""
RATE = "Which number, 0 to 5, do you give the reply? Answer with the digit alone."
MARKS = "012345"


@dataclass(frozen=True)
class Answers:
    """The answers to one prompt, those that should win first."""

    prompt: Messages
    texts: tuple[str, ...]
    given: tuple[float, ...] | None = None
    """Scores that the data hold."""

    @staticmethod
    def of(row: Mapping[str, Any]) -> Answers:
        """Of a row with prompt, chosen and rejected: texts, conversations, or lists of texts."""
        texts = [*_texts(row["chosen"]), *_texts(row["rejected"])]
        given: tuple[float, ...] | None = None
        if isinstance(row.get("scores"), Sequence):
            given = tuple(_numbers(row["scores"]))
        for chosen, rejected in SCORES:
            if row.get(chosen) is not None and row.get(rejected) is not None:
                given = (*_numbers(row[chosen]), *_numbers(row[rejected]))
        known = given if given is not None and len(given) == len(texts) else None
        return Answers(_prompt(row["prompt"]), tuple(texts), known)


def scored(subject: Subject, answers: Sequence[Answers], by: By) -> list[list[float | None]]:
    """A score for each answer; None where there is none.

    A reward model scores them one by one. A language model compares two in both orders, and gives
    each its mean preference; more than two it rates one by one, 0 to 5. Scores in the data are
    taken as they are, and a note says so. Raises UserError where no prompt has all of its scores.
    """
    if not answers:
        raise UserError("no row has prompt, chosen and rejected: there is nothing to score.")
    found: list[list[float | None]] = [[] for _ in answers]
    given = [row for row, one in enumerate(answers) if one.given is not None]
    for row in given:
        found[row] = [_known(value) for value in answers[row].given or ()]
    if given:
        rows = counted(len(given), "row")
        subject.notes.append(f"{rows}: scores are those of the data; {subject.name} is not asked.")
    rest = [row for row, one in enumerate(answers) if one.given is None]
    pairs = [row for row in rest if len(answers[row].texts) == 2]
    if isinstance(subject, Scorer) or len(pairs) < len(rest):
        flat = [(answers[row].prompt, text) for row in rest for text in answers[row].texts]
        said = iter(
            subject.scores(flat) if isinstance(subject, Scorer) else rated(subject, flat, by)
        )
        for row in rest:
            found[row] = [_known(next(said)) for _ in answers[row].texts]
    elif rest:
        asked_of = [Pair(answers[row].prompt, *answers[row].texts) for row in rest]
        verdicts = both_orders(ModelJudge(subject, by), asked_of)
        for place, row in enumerate(rest):
            mean = verdicts.mean(place)
            found[row] = [None, None] if mean is None else [mean, 1 - mean]
    if all(None in one for one in found):
        raise UserError(
            f"{subject.name} scores no answer to {counted(len(answers), 'prompt')} as a number. "
            "A language model may be asked by=token."
        )
    return found


def rated(subject: Subject, pairs: Sequence[tuple[Messages, str]], by: By) -> list[float]:
    """Ratings of single answers, 0 to 5, by a language model; NaN where it gave none.

    In words, the last "Score: n" that it writes; by token, the mean of 0 to 5 under the
    probabilities of these digits as its reply.
    """
    clean = cleaned_for(subject)
    bodies = [
        RUBRIC.replace("{prompt}", clean(_flat(prompt))).replace("{answer}", clean(text))
        for prompt, text in pairs
    ]
    if by == "words":
        said = subject.answers([(Message("user", body),) for body in bodies])
        return [read_score(texts[0]) if texts else math.nan for texts in said]
    heads = [body[: body.rindex("===") + 3] + f"\n\n{RATE}" for body in bodies]
    both = [((Message("user", head),), mark) for head in heads for mark in MARKS]
    logp = np.array([one.logp for one in subject.readings(both)]).reshape(-1, len(MARKS))
    weight = np.exp(logp - logp.max(1, keepdims=True))
    return [float(w @ np.arange(len(MARKS)) / w.sum()) for w in weight]


def stratified(
    rows: Sequence[Mapping[str, Any]],
    weights: Mapping[str, float],
    *,
    column: str = "right",
    by: str = "subset",
    level: float = 0.95,
) -> Interval:
    """Σ w·mean / Σ w over subsets, of a column of 0 to 1, with Wilson's interval at the number of
    rows that its variance is worth; subsets without a row are left out.
    """
    known = [row for row in rows if row[column] is not None]
    parts = [
        (weight, np.array([row[column] for row in known if row[by] == name]))
        for name, weight in weights.items()
    ]
    parts = [(weight, values) for weight, values in parts if len(values)]
    if not parts:
        return Interval(math.nan, 0.0, 1.0, level, 0)
    whole = sum(weight for weight, _ in parts)
    p = float(sum(weight * values.mean() for weight, values in parts) / whole)
    share = sum((weight / whole) ** 2 / len(values) for weight, values in parts)
    variance = float(
        sum((weight / whole) ** 2 * values.var() / len(values) for weight, values in parts)
    )
    spread = p * (1 - p)
    worth = spread / variance if variance > 0 and spread > 0 else 1 / share
    low, high = wilson_bounds(p, worth, NormalDist().inv_cdf((1 + level) / 2))
    return Interval(p, float(low), float(high), level, sum(len(values) for _, values in parts))


def _texts(value: Any) -> list[str]:
    """The texts of a column: one, several, or the last message of a conversation."""
    if isinstance(value, str):
        return [value]
    items = list(cast("Sequence[Any]", value))
    if items and isinstance(items[0], Mapping):
        return [str(cast("Mapping[str, Any]", items[-1])["content"])]
    return [str(item) for item in items]


def _prompt(value: Any) -> Messages:
    if isinstance(value, str):
        return asked(value)
    turns = [cast("Mapping[str, Any]", item) for item in cast("Sequence[Any]", value)]
    return tuple(Message(str(turn["role"]), str(turn["content"])) for turn in turns)


def _flat(prompt: Messages) -> str:
    if len(prompt) == 1:
        return prompt[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def _numbers(value: Any) -> list[float]:
    items: list[Any] = list(cast("Any", value)) if isinstance(value, Sequence) else [value]
    flat: list[Any] = [item[0] if isinstance(item, list) and item else item for item in items]
    return [math.nan if item is None else float(item) for item in flat]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
