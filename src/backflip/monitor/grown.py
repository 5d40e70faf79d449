"""Phrases that grew most between two sets of answers: log-odds with a prior (Monroe et al., 2008).

δ = log-odds of a phrase after less before, with pseudo-counts from both sets together; z = δ over
its standard deviation. A phrase counts once for each answer that has it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Phrase", "grown"]

LONGEST = 4
"""Words of a phrase, at most."""
SURE = 2.58
"""z beyond which growth is told: 99 % of a normal, since many phrases are looked at."""
PRIOR = 0.1
"""Of an answer's worth of pseudo-counts, shared out as phrases are in both sets together."""


@dataclass(frozen=True)
class Phrase:
    """A phrase, and in how many answers it stood."""

    words: str
    before: int
    after: int
    z: float


def grown(before: Sequence[str], after: Sequence[str], *, most: int = 5) -> list[Phrase]:
    """The phrases whose share of answers grew most surely, none a part of one told already."""
    if not before or not after:
        return []
    old, new = _counts(before), _counts(after)
    many = len(before), len(after)
    found = {words: _phrase(words, old[words], new[words], *many) for words in new}
    told = list[Phrase]()
    for phrase in sorted(found.values(), key=lambda p: (-p.z, -len(p.words.split()), p.words)):
        if phrase.z < SURE or len(told) == most:
            break
        ends = phrase.words.split()[:: max(len(phrase.words.split()) - 1, 1)]
        grew = all(found[end].z >= SURE for end in ends)  # else a neighbour that was there before
        if grew and not any(_overlap(phrase.words, other.words) for other in told):
            told.append(phrase)
    return told


def _overlap(one: str, other: str) -> bool:
    """Whether the phrases share a word in a row: one holds a part of the other."""
    return bool(set(one.split()) & set(other.split()))


def _counts(answers: Sequence[str]) -> Counter[str]:
    """Answers that hold each phrase."""
    counts = Counter[str]()
    for answer in answers:
        words = answer.casefold().split()
        counts.update(
            {
                " ".join(words[start : start + n])
                for n in range(1, LONGEST + 1)
                for start in range(len(words) - n + 1)
            }
        )
    return counts


def _phrase(words: str, before: int, after: int, old: int, new: int) -> Phrase:
    prior = (before + after) / (old + new)
    a, b = after + PRIOR * prior, before + PRIOR * prior
    odds = math.log(a / (new - after + PRIOR * (1 - prior) + 1e-9))
    odds -= math.log(b / (old - before + PRIOR * (1 - prior) + 1e-9))
    return Phrase(words, before, after, odds / math.sqrt(1 / a + 1 / b))
