"""Agreement of answers with one another, and the posterior of a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from backflip.errors import UserError
from backflip.feedback.kinds.fields import Rubric
from backflip.feedback.kinds.registry import kind_of


def consensus(kind: str, values: Sequence[Mapping[str, Any]]) -> float:
    """Share of the answers that agree with the one that most agree with; 1 where there are none.

    Where an answer is one word it is the share of the commonest word.
    """
    same = kind_of(kind).same_as
    agreed = [sum(same(value, other) for other in values) for value in values]
    return max(agreed, default=1) / max(1, len(values))


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


def attribute_of(settings: Rubric, wanted: str) -> str:
    """The attribute that is asked for, the first one if none is. Raises UserError for others."""
    names = [attribute.name for attribute in settings.attributes]
    if not kind_of(settings.kind).attributes:
        if wanted:
            raise UserError(f"projects of kind {settings.kind!r} have no attributes to choose.")
        return ""
    if wanted and wanted not in names:
        raise UserError(f"there is no attribute {wanted!r}; this project has {', '.join(names)}.")
    return wanted or names[0]
