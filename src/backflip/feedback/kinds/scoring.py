"""An answer as one word, as one number, and against the answer that is known to be right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from backflip.feedback.kinds.settings import ProjectSettings

RANK_AGREES = 0.8
"""Share of the gold ranking's pairs that must stand in the same order."""
SPANS_AGREE = 0.5
"""F₁ over labelled characters that counts as agreement."""


def word_of(kind: str, value: Mapping[str, Any]) -> str | None:
    """The verdict as one word, for kinds that have one."""
    match kind:
        case "compare" | "clips":
            return str(value["choice"])
        case "thumbs":
            return "up" if value["up"] else "down"
        case "principles":
            return str(value["vote"])
        case _:
            return None


def words(settings: ProjectSettings) -> tuple[str, ...]:
    """Verdicts that say something, so that a posterior can be spread over them."""
    match settings.kind:
        case "compare" | "clips":
            ties = ("tie",) if settings.tie_possible else ()
            return ("a", "b", *ties, *(("both_bad",) if settings.allow_both_bad else ()))
        case "thumbs":
            return ("up", "down")
        case "principles":
            return ("agree", "disagree")
        case _:
            return ()


def score_of(kind: str, value: Mapping[str, Any], settings: ProjectSettings) -> float | None:
    """−1 … 1: b much better … a much better, down … up; a tie is 0; none: nothing was said.

    A rating with a single attribute is that rating, in its own units.
    """
    if kind == "rate":
        ratings = list(value["ratings"].values())
        return float(ratings[0]) if len(ratings) == 1 else None
    word = word_of(kind, value) or ""
    if word in ("a", "b"):
        strength = min(1.0, value["strength"] / settings.levels)
        return strength if word == "a" else -strength
    return _SCORES.get(word)


_SCORES = {"tie": 0.0, "up": 1.0, "agree": 1.0, "down": -1.0, "disagree": -1.0}


def agrees(
    kind: str, gold: Mapping[str, Any], value: Mapping[str, Any], settings: ProjectSettings
) -> bool:
    """Whether an answer is right. Strengths are a matter of taste and do not count."""
    match kind:
        case "rank":
            return _rank_agreement(gold["ranks"], value["ranks"]) >= RANK_AGREES
        case "rate":
            return all(
                abs(value["ratings"].get(name, math.inf) - wanted) <= 1
                for name, wanted in gold["ratings"].items()
            )
        case "steps":
            return _first_bad(gold["labels"]) == _first_bad(value["labels"])
        case "spans":
            return _span_f1(gold["spans"], value["spans"]) >= SPANS_AGREE
        case _:
            return word_of(kind, gold) == word_of(kind, value)


def consensus(kind: str, said: Sequence[Mapping[str, Any]], settings: ProjectSettings) -> float:
    """Share of the answers that agree with the one that most agree with; 1 where there are none.

    Where an answer is one word it is the share of the commonest word.
    """
    agreed = [sum(agrees(kind, one, other, settings) for other in said) for one in said]
    return max(agreed, default=1) / max(1, len(said))


def _rank_agreement(gold: Sequence[int | None], given: Sequence[int | None]) -> float:
    """Share of gold's decided pairs in the same order. Unranked is below all that is ranked."""
    low = len(gold)
    order = [low if rank is None else rank for rank in gold]
    other = [low if rank is None else rank for rank in given]
    decided = [(i, j) for i, j in combinations(range(low), 2) if order[i] != order[j]]
    same = sum(
        (order[i] < order[j]) == (other[i] < other[j]) != (other[i] == other[j]) for i, j in decided
    )
    return same / len(decided) if decided else float(len(set(other)) == 1)


def _first_bad(labels: Sequence[int | None]) -> int | None:
    return next((place for place, label in enumerate(labels) if label == -1), None)


def _span_f1(gold: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]) -> float:
    wanted, seen = _characters(gold), _characters(given)
    if not wanted and not seen:
        return 1.0
    return 2 * len(wanted & seen) / (len(wanted) + len(seen))


def _characters(spans: Sequence[Mapping[str, Any]]) -> set[tuple[int, str]]:
    return {(place, span["label"]) for span in spans for place in range(span["start"], span["end"])}


def posterior(votes: Sequence[tuple[str, float]], possible: Sequence[str]) -> dict[str, float]:
    """P(word is right | votes), each vote with its rater's P(right) η, from an even prior.

    One-coin Dawid-Skene with known η: a wrong rater picks any other word with the same chance.
    Votes for words that say nothing (cannot tell) are left out.
    """
    others = max(1, len(possible) - 1)
    logs = dict.fromkeys(possible, 0.0)
    for said, reliability in votes:
        if said in logs:
            right = min(0.99, max(0.05, reliability))
            for word in logs:
                logs[word] += math.log(right if word == said else (1 - right) / others)
    top = max(logs.values(), default=0.0)
    masses = {word: math.exp(value - top) for word, value in logs.items()}
    return {word: mass / sum(masses.values()) for word, mass in masses.items()}
