"""Rankings and ratings as lessons: K answers to a prompt in one order."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise
from typing import Any

from backflip.feedback.exchange.answered_items import Asked
from backflip.feedback.exchange.compare import EVEN
from backflip.feedback.exchange.records import Evidence, Lesson, Source, turns
from backflip.feedback.kinds.tasks import Rank, Rate
from backflip.feedback.statistics.consensus import Verdict, even, weight_of


@dataclass(frozen=True)
class Order:
    """K answers in one order."""

    rank: tuple[int, ...]
    score: tuple[float, ...]
    """Mean P(better) against the others; of a rating the rating."""
    pairs: Mapping[tuple[int, int], Verdict]
    evidence: Evidence


# ---- rankings


def ranked(source: Source) -> Iterator[Lesson]:
    """Rankings of K."""
    for one, order in orders(source):
        payload = one.payload
        assert isinstance(payload, Rank)
        texts = [answer.text for answer in payload.answers]
        record = source.comparison(one, turns(payload.prompt), texts, order.rank)
        sources = tuple(answer.source for answer in payload.answers)
        evidence = replace(order.evidence, sources=sources, pairs=order.pairs)
        if record is not None:
            yield Lesson(record, evidence)


def ranked_apart(source: Source) -> Iterator[Lesson]:
    """The best of each ranking good, the others bad."""
    for one, order in orders(source):
        payload = one.payload
        assert isinstance(payload, Rank)
        if len(set(order.rank)) == 1:
            tied = EVEN if order.evidence.split else "all answers tie"
            source.account.drop(tied, one.item.id)
            continue
        for answer, place in zip(payload.answers, order.rank, strict=True):
            found = replace(order.evidence, sources=(answer.source,))
            yield from source.label(one, payload.prompt, answer.text, place == 0, found)


def orders(source: Source) -> Iterator[tuple[Asked, Order]]:
    """Items with their order, one an item or one an answer."""
    for one in source.asked():
        payload = one.payload
        assert isinstance(payload, Rank)
        size = len(payload.answers)
        given = [answer.value["ranks"] for answer in one.said]
        source.account.unranked += sum(all(r[k] is None for r in given) for k in range(size))
        if source.per == "answer":
            for answer in one.said:
                right = source.consensus.reliability(answer.person)
                found = Evidence((one,), (answer,), weight=weight_of(right))
                rank = _filled(answer.value["ranks"])
                yield one, Order(rank, tuple(-float(r) for r in rank), {}, found)
        else:
            yield one, agreed_order(source, one, size)


def agreed_order(source: Source, one: Asked, size: int) -> Order:
    """By the mean of P(better) over the others; neighbours that tie share a place."""
    known = {
        (i, j): verdict
        for i, j in combinations(range(size), 2)
        if (verdict := source.verdict(one, f"{i}-{j}")) is not None
    }
    won = [[_chance(known, i, j) for j in range(size) if j != i] for i in range(size)]
    score = tuple(sum(chances) / len(chances) for chances in won)
    rank = _filled(one.truth["ranks"]) if one.truth is not None else _places(score, known)
    split = frozenset(pair for pair, verdict in known.items() if math.isnan(verdict.value))
    _count(source, rank, split)
    decided = [v for (i, j), v in known.items() if rank[i] != rank[j]]
    sure = sum(v.soft for v in decided) / len(decided) if decided else math.nan
    evidence = Evidence(
        (one,),
        one.said,
        posterior=None if math.isnan(sure) else sure,
        weight=weight_of(sure),
        known=one.truth is not None,
        split=split,
    )
    return Order(rank, score, known, evidence)


def _count(source: Source, rank: Sequence[int], split: frozenset[tuple[int, int]]) -> None:
    """Pairs that share a place because they tie, and those on which raters are evenly split."""
    shared = {(i, j) for i, j in combinations(range(len(rank)), 2) if rank[i] == rank[j]}
    source.account.tied += len(shared - split)
    source.account.undecided += len(split)


def _chance(known: Mapping[tuple[int, int], Verdict], i: int, j: int) -> float:
    """P(answer i is better than j); a half where nobody said."""
    if (i, j) in known:
        return known[i, j].p_first
    return 1 - known[j, i].p_first if (j, i) in known else 0.5


def _places(score: Sequence[float], known: Mapping[tuple[int, int], Verdict]) -> tuple[int, ...]:
    order = sorted(range(len(score)), key=lambda k: -score[k])
    rank, place = [0] * len(score), 0
    for before, here in pairwise(order):
        verdict = known.get((min(before, here), max(before, here)))
        place += verdict is not None and verdict.value in (1.0, -1.0)
        rank[here] = place
    return tuple(rank)


def _filled(ranks: Sequence[int | None]) -> tuple[int, ...]:
    """Unranked answers below all that are ranked."""
    last = max((rank for rank in ranks if rank is not None), default=-1) + 1
    return tuple(last if rank is None else rank for rank in ranks)


# ---- ratings


@dataclass
class Rated:
    """An answer with what it was given, 0 to 1."""

    one: Asked
    score: float
    ratings: dict[str, float]
    """Mean of each attribute, in its own units."""


@dataclass
class _Prompt:
    answers: list[Rated] = field(default_factory=list)


def rated(source: Source) -> Iterator[Lesson]:
    """Answers to the same prompt, the one with the highest mean rating first.

    Attributes are brought to 0 … 1 and averaged. A prompt with one rated answer compares nothing.
    """
    prompts: dict[str, _Prompt] = {}
    for one in source.asked():
        payload = one.payload
        assert isinstance(payload, Rate)
        turns_of = [[turn.role, turn.content] for turn in payload.prompt]
        key = json.dumps(turns_of)
        prompts.setdefault(key, _Prompt()).answers.append(mean_rating(source, one))
    for prompt in prompts.values():
        lesson = _by_rating(source, prompt.answers)
        if lesson is not None:
            yield lesson


def _by_rating(source: Source, answers: Sequence[Rated]) -> Lesson | None:
    first = answers[0].one
    if len(answers) < 2:
        source.account.drop("the only rated answer to its prompt", first.item.id)
        return None
    payloads = [rated.one.payload for rated in answers]
    texts = [p.answer.text for p in payloads if isinstance(p, Rate)]
    split = frozenset(
        pair for pair in combinations(range(len(answers)), 2) if _even(source, answers, *pair)
    )
    rank = _by_score([round(rated.score, 9) for rated in answers], split)
    _count(source, rank, split)
    prompt = payloads[0]
    assert isinstance(prompt, Rate)
    soft = 0.5 if rank == (0, 0) else 1.0
    record = source.comparison(first, turns(prompt.prompt), texts, rank, soft=soft)
    if record is None:
        return None
    more = {
        "scores": [rated.score for rated in answers],
        "ratings": [rated.ratings for rated in answers],
    }
    evidence = Evidence(
        tuple(rated.one for rated in answers),
        tuple(answer for rated in answers for answer in rated.one.said),
        sources=tuple(p.answer.source for p in payloads if isinstance(p, Rate)),
        known=all(rated.one.truth is not None for rated in answers),
        split=split,
        more=more,
    )
    return Lesson(record, evidence)


def _by_score(scores: Sequence[float], split: frozenset[tuple[int, int]]) -> tuple[int, ...]:
    """Places by score, the highest first; neighbours that are equal or split share one."""
    order = sorted(range(len(scores)), key=lambda k: -scores[k])
    rank, place = [0] * len(scores), 0
    for before, here in pairwise(order):
        pair = (min(before, here), max(before, here))
        place += scores[before] != scores[here] and pair not in split
        rank[here] = place
    return tuple(rank)


def _even(source: Source, answers: Sequence[Rated], i: int, j: int) -> bool:
    """Whether of the raters who rated both answers as many prefer one as the other."""
    mine, other = (answers[k].one for k in (i, j))
    if mine.truth is not None or other.truth is not None:
        return False
    marks = {a.person: _scaled(source, a.value) for a in other.answers}
    gaps = [_scaled(source, a.value) - marks[a.person] for a in mine.answers if a.person in marks]
    return even([sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)])


def _scaled(source: Source, value: Mapping[str, Any]) -> float:
    """The mean of one rating over its attributes, each brought to 0 … 1."""
    given = [
        (value["ratings"][one.name] - one.low) / (one.high - one.low)
        for one in source.settings.attributes
        if one.name in value["ratings"]
    ]
    return sum(given) / len(given) if given else 0.5


def mean_rating(source: Source, one: Asked) -> Rated:
    """What an answer was given on average, or what is known of it."""
    values = [one.truth] if one.truth is not None else [a.value for a in one.answers]
    means, scaled = dict[str, float](), list[float]()
    for attribute in source.settings.attributes:
        given = [v["ratings"][attribute.name] for v in values if attribute.name in v["ratings"]]
        if given:  # an attribute may be younger than the answers
            means[attribute.name] = mean = sum(given) / len(given)
            scaled.append((mean - attribute.low) / (attribute.high - attribute.low))
    return Rated(one, sum(scaled) / len(scaled) if scaled else 0.5, means)
