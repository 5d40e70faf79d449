"""Rankings: answers in one order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any, ClassVar

from backflip.data.records import BadRecordError, Comparison, Labelled
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.feedback.exchange.mapping import (
    Converters,
    KindMapping,
    ToolQuestion,
    as_turns,
    text_of,
)
from backflip.feedback.exchange.records import Evidence, LabelledRecord, Source, turns
from backflip.feedback.exchange.tool_parts import PROMPT, result
from backflip.feedback.exchange.tool_values import ITEMS, PLACE, Read, Values, ranks_of, seen
from backflip.feedback.exchange.verdicts import EVEN, count_shared
from backflip.feedback.rating.items import NewItem
from backflip.feedback.statistics.consensus import Verdict, weight_of
from backflip.feedback.tasks.settings import ProjectSettings


@dataclass(frozen=True)
class Order:
    """K answers in one order."""

    rank: tuple[int, ...]
    score: tuple[float, ...]
    """Mean P(better) against the others; of a rating the rating."""
    pairs: Mapping[tuple[int, int], Verdict]
    evidence: Evidence


def ranked(source: Source) -> Iterator[LabelledRecord]:
    """Rankings of K."""
    for answered, order in orders(source):
        payload = answered.payload
        texts = [answer.text for answer in payload.answers]
        record = source.comparison(answered, turns(payload.prompt), texts, order.rank)
        sources = tuple(answer.source for answer in payload.answers)
        evidence = replace(order.evidence, sources=sources, pairs=order.pairs)
        if record is not None:
            yield LabelledRecord(record, evidence)


def ranked_apart(source: Source) -> Iterator[LabelledRecord]:
    """The best of each ranking good, the others bad."""
    for answered, order in orders(source):
        payload = answered.payload
        if len(set(order.rank)) == 1:
            tied = EVEN if order.evidence.split else "all answers tie"
            source.accounting.drop(tied, answered.item.id)
            continue
        for answer, place in zip(payload.answers, order.rank, strict=True):
            found = replace(order.evidence, sources=(answer.source,))
            yield from source.label(answered, payload.prompt, answer.text, place == 0, found)


def orders(source: Source) -> Iterator[tuple[AnsweredItem, Order]]:
    """Items with their order, one an item or one an answer."""
    for answered in source.items():
        payload = answered.payload
        size = len(payload.answers)
        given = [answer.value["ranks"] for answer in answered.said]
        source.accounting.unranked += sum(all(r[k] is None for r in given) for k in range(size))
        if source.per == "answer":
            for answer in answered.said:
                right = source.consensus.reliability(answer.person)
                found = Evidence((answered,), (answer,), weight=weight_of(right))
                rank = _filled(answer.value["ranks"])
                yield answered, Order(rank, tuple(-float(r) for r in rank), {}, found)
        else:
            yield answered, agreed_order(source, answered, size)


def agreed_order(source: Source, answered: AnsweredItem, size: int) -> Order:
    """By the mean of P(better) over the others; neighbours that tie share a place."""
    known = {
        (i, j): verdict
        for i, j in combinations(range(size), 2)
        if (verdict := source.verdict(answered, f"{i}-{j}")) is not None
    }
    won = [[_chance(known, i, j) for j in range(size) if j != i] for i in range(size)]
    score = tuple(sum(chances) / len(chances) for chances in won)
    rank = _filled(answered.truth["ranks"]) if answered.truth is not None else _places(score, known)
    split = frozenset(pair for pair, verdict in known.items() if math.isnan(verdict.value))
    count_shared(source, rank, split)
    decided = [v for (i, j), v in known.items() if rank[i] != rank[j]]
    sure = sum(v.soft for v in decided) / len(decided) if decided else math.nan
    evidence = Evidence(
        (answered,),
        answered.said,
        posterior=None if math.isnan(sure) else sure,
        weight=weight_of(sure),
        known=answered.truth is not None,
        split=split,
    )
    return Order(rank, score, known, evidence)


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


def _scores(source: Source, answered: AnsweredItem) -> Mapping[str, float]:
    """2P − 1, where P is the mean chance against the others."""
    answers = answered.payload.answers
    chances = agreed_order(source, answered, len(answers)).score
    texts = [answer.text.strip() for answer in answers]
    return {text: 2 * p - 1 for text, p in zip(texts, chances, strict=True)}


# ---- other tools


class RankQuestion(ToolQuestion):
    needed, required = 2, False

    def payload(self, answers: list[dict[str, Any]]) -> dict[str, Any]:
        return {"answers": answers}

    def read(self, values: Values, names: Sequence[str], settings: ProjectSettings) -> Read:
        for name, value in values.items():
            if (ranks := ranks_of(value, names)) is not None:
                return {"ranks": ranks}, {name}
        raise BadRecordError("no answer ranks the responses", f"seen: {seen(values)}")

    def texts(self, widest: int) -> list[str]:
        """Argilla takes a ranking only where it ranks all answers of its question, so of items with
        fewer than ``widest`` it will take the texts alone.
        """
        return [f"response_{place}" for place in range(1, widest + 1)]

    def questions(self, settings: ProjectSettings, names: Sequence[str]) -> list[dict[str, Any]]:
        return [{"name": "ranking", "type": "ranking", "values": list(names)}]

    def responses(self, value: Mapping[str, Any]) -> dict[str, Any]:
        ranked = [
            {"value": f"response_{place}", "rank": rank + 1}
            for place, rank in enumerate(value["ranks"], start=1)
            if rank is not None
        ]
        return {"ranking": ranked}

    def page(self, settings: ProjectSettings) -> list[str]:
        return [
            PROMPT,
            f'<List name="{ITEMS}" value="${ITEMS}" title="Answers"/>',
            f'<Ranker name="ranking" toName="{ITEMS}"/>',
        ]

    def data(self, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        listed = [
            {"id": str(place), "title": f"Answer {place}", "body": answer["text"]}
            for place, answer in enumerate(answers, start=1)
        ]
        return {ITEMS: listed}

    def results(
        self, value: Mapping[str, Any], payload: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        places: dict[str, list[str]] = {}
        for place, rank in enumerate(value["ranks"], start=1):
            if rank is not None:
                places.setdefault(f"{PLACE}{rank + 1}", []).append(str(place))
        yield result("ranking", ITEMS, "ranker", {"ranker": places})


class RankMapping(KindMapping):
    converters: ClassVar[Converters] = {Comparison: ranked, Labelled: ranked_apart}
    readable = (Comparison,)
    formats = ("preference", "soft", "hh", "rankings", "unpaired", "kto")
    rewards = True
    question = RankQuestion()
    scored = True

    def scores(self, source: Source, answered: AnsweredItem) -> Mapping[str, float]:
        return _scores(source, answered)

    def from_comparison(self, record: Comparison, *, gold: bool) -> Iterator[NewItem]:
        answers = [{"text": text_of(answer)} for answer in record.answers]
        payload = {"prompt": as_turns(record.prompt), "answers": answers}
        yield NewItem(payload, gold={"ranks": list(record.rank)} if gold else None)


MAPPING = RankMapping()
