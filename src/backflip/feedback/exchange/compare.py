"""Comparisons of two and thumbs as lessons: one verdict an item, or one an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from backflip.feedback.exchange.answered_items import SILENT, Asked
from backflip.feedback.exchange.records import Evidence, Lesson, Source, turns
from backflip.feedback.kinds.scoring import score_of, word_of
from backflip.feedback.kinds.tasks import Compare, Thumbs
from backflip.feedback.projects.reading import AnswerRow
from backflip.feedback.statistics.consensus import Verdict, weight_of

EVEN = "raters are evenly split"


@dataclass(frozen=True)
class Said:
    """One verdict that becomes a row."""

    side: float
    """1: a is better, or good; −1: b, or bad; 0: a tie; not a number: even, or ``silent``."""
    silent: str
    """both_bad or cannot_tell; empty: something was said."""
    soft: float
    """P(the side is right), a tie counting half."""
    evidence: Evidence


def verdicts(source: Source, one: Asked) -> Iterator[Said]:
    """The verdict of an item, or, one row an answer, those of its answers."""
    if source.per == "answer":
        for answer in one.said:
            yield _single(source, one, answer)
        return
    silent = _silence(one)
    verdict = None if silent else source.verdict(one)
    if verdict is None:
        yield Said(math.nan, silent or "cannot_tell", 0.5, evidence(one, None))
    else:
        yield Said(verdict.value, "", verdict.soft, evidence(one, verdict))


def evidence(one: Asked, verdict: Verdict | None) -> Evidence:
    """Of an item and its verdict, by all who answered."""
    if verdict is None:
        return Evidence((one,), one.said)
    return Evidence(
        asked=(one,),
        answers=one.said,
        posterior=verdict.posterior,
        low=verdict.low,
        high=verdict.high,
        weight=verdict.weight,
        known=verdict.known,
    )


def _silence(one: Asked) -> str:
    """Which of the verdicts that choose nothing stands for the item; empty: none."""
    kind = one.item.payload["kind"]
    if one.truth is not None:
        word = word_of(kind, one.truth)
        return word if word in SILENT else ""
    spoken = sum(count for word, count in one.words.items() if word not in SILENT)
    loudest = max(SILENT, key=lambda word: one.words[word])
    return loudest if one.words[loudest] > spoken else ""


def _single(source: Source, one: Asked, answer: AnswerRow) -> Said:
    """What one rater said, with the chance that this rater is right."""
    word, kind = word_of(source.kind, answer.value), source.kind
    score = score_of(kind, answer.value, source.settings)
    senior = answer in one.senior
    right = math.nan if senior else source.consensus.reliability(answer.person)
    verdict = source.verdict(one)
    side = math.nan if score is None else float((score > 0) - (score < 0))
    found = Evidence(
        asked=(one,),
        answers=(answer,),
        posterior=verdict.chances.get(side, 0.0) if verdict and score is not None else None,
        weight=weight_of(right),
        known=senior,
    )
    soft = 1.0 if math.isnan(right) else min(max(right, 0.5), 1.0)
    return Said(side, str(word) if word in SILENT else "", soft if side else 0.5, found)


# ---- two answers


def compared(source: Source) -> Iterator[Lesson]:
    """Comparisons of two; ties among them, and even splits, which rank neither answer first."""
    for one in source.asked():
        for said in verdicts(source, one):
            if said.silent:
                source.account.drop(SILENT[said.silent], one.item.id)
            elif (lesson := _comparison(source, one, said)) is not None:
                yield lesson


def _comparison(source: Source, one: Asked, said: Said) -> Lesson | None:
    payload = one.payload
    assert isinstance(payload, Compare)
    decided = said.side in (1.0, -1.0)
    source.account.tied += said.side == 0
    source.account.undecided += math.isnan(said.side)
    record = source.comparison(
        one,
        turns(payload.prompt),
        [answer.text for answer in payload.answers],
        {1.0: (0, 1), -1.0: (1, 0)}.get(said.side, (0, 0)),
        margin=_margin(source, said) if decided else 0.0,
        soft=said.soft if decided else 0.5,
    )
    sources = tuple(answer.source for answer in payload.answers)
    split = frozenset({(0, 1)} if math.isnan(said.side) else ())
    proof = replace(said.evidence, sources=sources, split=split)
    return None if record is None else Lesson(record, proof)


def _margin(source: Source, said: Said) -> float:
    """Llama 2's m(r) for the side that won: 0 a little better … 1 significantly better.

    Touvron et al. (2023, table 27), strengths in even steps; the mean over all who chose, those
    for the other side counting against it, and at least 0.
    """
    truth = said.evidence.asked[0].truth
    values = [(a.value, source.rubrics[a.rubric_version]) for a in said.evidence.answers]
    if said.evidence.known and truth:
        values = [(truth, source.settings)]
    found = list[float]()
    for value, rubric in values:
        if value["choice"] not in SILENT:
            side = {"a": 1.0, "b": -1.0}.get(value["choice"], 0.0)
            strength = (value.get("strength", 1) - 1) / max(rubric.levels - 1, 1)
            found.append(side * said.side * min(1.0, strength))
    return max(sum(found) / len(found), 0.0) if found else 0.0


def compared_apart(source: Source) -> Iterator[Lesson]:
    """The better answer good, the other bad; or both bad, which a pair cannot say."""
    for one in source.asked():
        for said in verdicts(source, one):
            if said.silent == "both_bad":
                yield from _each(source, one, said, (False, False))
            elif said.silent:
                source.account.drop(SILENT[said.silent], one.item.id)
            elif said.side in (1.0, -1.0):
                yield from _each(source, one, said, (said.side > 0, said.side < 0))
            else:
                _toss(source, one, said)


def _toss(source: Source, one: Asked, said: Said) -> None:
    """Count what has no side: a tie, or an even split."""
    even = math.isnan(said.side)
    source.account.undecided += even
    source.account.drop(EVEN if even else "tie", one.item.id)


def _each(source: Source, one: Asked, said: Said, labels: tuple[bool, bool]) -> Iterator[Lesson]:
    payload = one.payload
    assert isinstance(payload, Compare)
    for answer, good in zip(payload.answers, labels, strict=True):
        found = replace(said.evidence, sources=(answer.source,))
        yield from source.label(one, payload.prompt, answer.text, good, found)


# ---- one answer


def thumbs(source: Source) -> Iterator[Lesson]:
    """Answers called good or bad."""
    for one in source.asked():
        payload = one.payload
        assert isinstance(payload, Thumbs)
        for said in verdicts(source, one):
            if said.side not in (1.0, -1.0):
                _toss(source, one, said)
                continue
            found = replace(said.evidence, sources=(payload.answer.source,))
            yield from source.label(one, payload.prompt, payload.answer.text, said.side > 0, found)
