"""Verdicts on items, and on single answers, which the converters of kinds rest on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from backflip.feedback.exchange.answered_items import SILENT, AnsweredItem
from backflip.feedback.exchange.records import Evidence, Source
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.reading import AnswerRow
from backflip.feedback.statistics.consensus import Verdict, weight_of

EVEN = "raters are evenly split"


@dataclass(frozen=True)
class Vote:
    """One verdict that becomes a row."""

    side: float
    """1: a is better, or good; −1: b, or bad; 0: a tie; not a number: even, or ``silent``."""
    silent: str
    """both_bad or cannot_tell; empty: a side was taken."""
    soft: float
    """P(the side is right), a tie counting half."""
    evidence: Evidence


def votes(source: Source, answered: AnsweredItem) -> Iterator[Vote]:
    """The verdict of an item, or, one row an answer, those of its answers."""
    if source.per == "answer":
        for answer in answered.said:
            yield _single(source, answered, answer)
        return
    silent = _silence(answered)
    verdict = None if silent else source.verdict(answered)
    if verdict is None:
        yield Vote(math.nan, silent or "cannot_tell", 0.5, evidence(answered, None))
    else:
        yield Vote(verdict.value, "", verdict.soft, evidence(answered, verdict))


def evidence(answered: AnsweredItem, verdict: Verdict | None) -> Evidence:
    """Evidence of an item and its verdict, by all who answered."""
    if verdict is None:
        return Evidence((answered,), answered.said)
    return Evidence(
        items=(answered,),
        answers=answered.said,
        posterior=verdict.posterior,
        low=verdict.low,
        high=verdict.high,
        weight=verdict.weight,
        known=verdict.known,
    )


def _silence(answered: AnsweredItem) -> str:
    """The verdict without a choice that stands for the item; empty: none does."""
    if answered.truth is not None:
        word = answered.kind.word(answered.truth)
        return word if word in SILENT else ""
    spoken = sum(count for word, count in answered.words.items() if word not in SILENT)
    loudest = max(SILENT, key=lambda word: answered.words[word])
    return loudest if answered.words[loudest] > spoken else ""


def _single(source: Source, answered: AnsweredItem, answer: AnswerRow) -> Vote:
    """The answer of one rater, with the chance that this rater is right."""
    kind = kind_of(source.kind)
    word, score = kind.word(answer.value), kind.score(answer.value, source.settings)
    senior = answer in answered.senior
    right = math.nan if senior else source.consensus.reliability(answer.person)
    verdict = source.verdict(answered)
    side = math.nan if score is None else float((score > 0) - (score < 0))
    found = Evidence(
        items=(answered,),
        answers=(answer,),
        posterior=verdict.chances.get(side, 0.0) if verdict and score is not None else None,
        weight=weight_of(right),
        known=senior,
    )
    soft = 1.0 if math.isnan(right) else min(max(right, 0.5), 1.0)
    return Vote(side, str(word) if word in SILENT else "", soft if side else 0.5, found)


def own_words(
    source: Source, answered: AnsweredItem, answer: AnswerRow, sources: Sequence[str]
) -> Evidence:
    """Evidence of one answer that is nobody else's: a text, a choice in a talk."""
    senior = answer in answered.senior
    weight = 1.0 if senior else weight_of(source.consensus.reliability(answer.person))
    return Evidence((answered,), (answer,), weight=weight, sources=tuple(sources), known=senior)


def toss(source: Source, answered: AnsweredItem, vote: Vote) -> None:
    """Count an item without a side: a tie, or an even split."""
    even = math.isnan(vote.side)
    source.accounting.undecided += even
    source.accounting.drop(EVEN if even else "tie", answered.item.id)


def count_shared(source: Source, rank: Sequence[int], split: frozenset[tuple[int, int]]) -> None:
    """Count pairs that share a place because they tie, and those that are evenly split."""
    shared = {(i, j) for i, j in combinations(range(len(rank)), 2) if rank[i] == rank[j]}
    source.accounting.tied += len(shared - split)
    source.accounting.undecided += len(split)
