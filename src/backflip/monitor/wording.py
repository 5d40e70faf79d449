"""Answers that say again: themselves, their siblings, or one phrase whatever was asked.

Tokens, not words: no language is preferred, and nothing is decoded. The first ``MOST`` answers of a
step are looked at, so that it costs next to nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backflip.functional.statistics import pearson

__all__ = ["boilerplate", "hill", "repeated", "self_bleu", "within_prompts", "wording_metrics"]

Tokens = Sequence[Sequence[int]]
MOST = 64
PHRASE = 6
"""Tokens of a phrase that answers to several prompts share."""
TAIL = 0.1
"""Share of the largest errors that a tail is read from."""
FEWEST_TAIL = 10
"""Errors in a tail below which nothing is said of it."""


def wording_metrics(answers: Tokens, groups: Sequence[Hashable]) -> dict[str, float]:
    """``repetition``, ``self_bleu`` and ``boilerplate``; those that are not defined left out."""
    rows, of = answers[:MOST], groups[:MOST]
    found = {
        "repetition": repeated(rows),
        "self_bleu": self_bleu(rows, of),
        "boilerplate": boilerplate(rows, of),
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def repeated(answers: Tokens, n: int = 4) -> float:
    """Mean share of an answer's n-grams that it had before (Welleck et al., 2020: seq-rep-n)."""
    shares = [1 - len(set(grams)) / len(grams) for a in answers if (grams := ngrams(a, n))]
    return sum(shares) / len(shares) if shares else math.nan


def self_bleu(answers: Tokens, groups: Sequence[Hashable], n: int = 4) -> float:
    """Mean BLEU of each answer against the other answers to its prompt (Zhu et al., 2018).

    1: all alike. Precisions of 2-grams and longer are smoothed by one (Lin and Och, 2004).
    """
    siblings: dict[Hashable, list[Sequence[int]]] = {}
    for answer, group in zip(answers, groups, strict=True):
        siblings.setdefault(group, []).append(answer)
    scores = [
        _bleu(rows[i], [*rows[:i], *rows[i + 1 :]], n)
        for rows in siblings.values()
        if len(rows) > 1
        for i in range(len(rows))
        if len(rows[i])
    ]
    return sum(scores) / len(scores) if scores else math.nan


def boilerplate(answers: Tokens, groups: Sequence[Hashable], n: int = PHRASE) -> float:
    """Share of tokens in phrases of n that stand in answers to at least half of the prompts.

    Of four prompts or more, and of answers with n tokens or more; else NaN.
    """
    spoken: dict[Hashable, set[tuple[int, ...]]] = {}
    for answer, group in zip(answers, groups, strict=True):
        spoken.setdefault(group, set()).update(ngrams(answer, n))
    if len(spoken) < 4 or not any(spoken.values()):
        return math.nan
    in_prompts = Counter(phrase for phrases in spoken.values() for phrase in phrases)
    common = {phrase for phrase, prompts in in_prompts.items() if 2 * prompts >= len(spoken)}
    covered = total = 0
    for answer in answers:
        starts = [i for i, phrase in enumerate(ngrams(answer, n)) if phrase in common]
        covered += len({i + k for i in starts for k in range(n)})
        total += len(answer)
    return covered / total if total else math.nan


def within_prompts(
    scores: Float[Tensor, " B"], lengths: Int[Tensor, " B"], group: Int[Tensor, " B"]
) -> float:
    """Pearson's r of score and length among answers to the same prompt: both less their prompt's
    mean. NaN where no prompt has two answers.
    """
    if int(torch.bincount(group - group.min()).max()) < 2:
        return math.nan
    place = torch.unique(group, return_inverse=True)[1]  # pyright: ignore
    size = torch.bincount(place)
    centred = [
        x.double() - (torch.zeros(len(size)).double().index_add(0, place, x.double()) / size)[place]
        for x in (scores, lengths)
    ]
    return pearson(*centred)


def hill(errors: Float[Tensor, " B"]) -> float:
    """Hill's tail index ξ of |errors − median| over the largest tenth of them (Hill, 1975).

    0 for light tails, ½ where the variance ceases to be finite. Estimated high on few errors; NaN
    where the tail has fewer than ten.
    """
    far = (errors - errors.median()).abs().sort(descending=True).values.double()
    k = int(TAIL * len(far))
    if k < FEWEST_TAIL or not bool(far[k] > 0):
        return math.nan
    return float((far[:k] / far[k]).log().mean())


def ngrams(answer: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """All n-grams, in their order."""
    return list(zip(*(answer[start:] for start in range(n)), strict=False))


def _bleu(answer: Sequence[int], others: Tokens, n: int) -> float:
    """BLEU-n of one text against several, with the nearest length for the brevity penalty."""
    logs = 0.0
    for size in range(1, n + 1):
        own = Counter(ngrams(answer, size))
        most: Mapping[tuple[int, ...], int] = {}
        for other in others:
            most = Counter(most) | Counter(ngrams(other, size))
        hits = sum(min(count, most.get(gram, 0)) for gram, count in own.items())
        extra = int(size > 1)
        if not hits + extra:
            return 0.0
        logs += math.log((hits + extra) / (sum(own.values()) + extra)) / n
    nearest = min((len(other) for other in others), key=lambda m: (abs(m - len(answer)), m))
    return math.exp(logs + min(0.0, 1 - nearest / len(answer)))
