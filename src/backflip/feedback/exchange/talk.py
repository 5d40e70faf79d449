"""Talks: replies that people wrote or picked, turn by turn.

Every talk is one rater's own, so nothing is aggregated: a row is a choice that was made once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from backflip.data.records import BadRecordError, Comparison, Demonstration, Messages
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.feedback.exchange.mapping import Converters, KindMapping
from backflip.feedback.exchange.records import LabelledRecord, Source, message, turns
from backflip.feedback.exchange.verdicts import own_words
from backflip.feedback.kinds.talk import Talk
from backflip.feedback.projects.reading import AnswerRow

UNUSED = "nothing to choose between in the whole talk"
UNWRITTEN = "the rater wrote no reply in the talk"


def talked(source: Source) -> Iterator[LabelledRecord]:
    """Every turn at which the rater ranked, picked or wrote, as a comparison of its own."""
    for answered in source.items():
        for answer in answered.said:
            made = list(_choices(source, answered, answer))
            if not made:
                source.accounting.drop(UNUSED, answered.item.id)
            yield from made


def _choices(source: Source, answered: AnsweredItem, answer: AnswerRow) -> Iterator[LabelledRecord]:
    for number, before, turn in _turns(answered, answer):
        texts, rank, sources = _ordered(answered, turn)
        if len(set(rank)) < 2:
            continue
        record = source.comparison(answered, before, texts, rank)
        if record is not None:
            found = own_words(source, answered, answer, sources)
            yield LabelledRecord(record, replace(found, more={"turn": number}))


def _turns(
    answered: AnsweredItem, answer: AnswerRow
) -> Iterator[tuple[int, Messages, dict[str, Any]]]:
    """(number, all before it, the turn) of what the assistant said with something to choose."""
    payload = answered.payload
    before = turns(payload.opening)
    for number, turn in enumerate(answer.value["turns"], start=1):
        if turn["role"] == "assistant" and turn["candidates"]:
            yield number, before, turn
        try:
            before = (*before, message(turn["role"], turn["content"]))
        except BadRecordError:  # empty or redacted: what follows has no context to be learnt in
            return


def _ordered(
    answered: AnsweredItem, turn: dict[str, Any]
) -> tuple[list[str], tuple[int, ...], tuple[str, ...]]:
    """Texts of a turn, each once, with their ranks and writers: own words above what was offered.

    Without ranks, what was picked stands above the others, which share a place.
    """
    payload = answered.payload
    texts, picked, ranks = list(turn["candidates"]), turn["picked"], turn["ranks"]
    names = [_named(payload, place, len(texts)) for place in range(len(texts))]
    if ranks is None:
        ranks = [0 if picked is None or place == picked else 1 for place in range(len(texts))]
    ranks = list(ranks)
    if turn["edited"] and turn["content"] not in texts:
        texts, ranks = [turn["content"], *texts], [0, *(rank + 1 for rank in ranks)]
        names = ["rater", *names]
    first = {text: place for place, text in reversed(list(enumerate(texts)))}
    kept = sorted(first.values())
    levels = sorted({ranks[place] for place in kept})
    return (
        [texts[place] for place in kept],
        tuple(levels.index(ranks[place]) for place in kept),
        tuple(names[place] for place in kept),
    )


def _named(payload: Talk, place: int, offered: int) -> str:
    """Which policy made a candidate: they stand in the policies' order, as many from each."""
    return payload.policies[place * len(payload.policies) // max(offered, 1)]


def spoken(source: Source) -> Iterator[LabelledRecord]:
    """Replies of raters: edited ones, or a whole talk in which they are the assistant.

    An edited reply comes with all that led to it; recipes with ``turns: last`` learn it alone.
    """
    for answered in source.items():
        for answer in answered.said:
            made = list(_written(source, answered, answer))
            if not made:
                source.accounting.drop(UNWRITTEN, answered.item.id)
            yield from made


def _written(source: Source, answered: AnsweredItem, answer: AnswerRow) -> Iterator[LabelledRecord]:
    payload = answered.payload
    whole = turns(payload.opening)
    ends = list[Messages]()
    for turn in answer.value["turns"]:
        try:
            whole = (*whole, message(turn["role"], turn["content"]))
        except BadRecordError as error:
            source.accounting.drop(error.reason, answered.item.id)
            break
        if turn["role"] == "assistant" and (turn["edited"] or payload.role == "assistant"):
            ends.append(whole)
    if payload.role == "assistant":
        ends = ends[-1:]
    for messages in ends:
        record = source.attempt(answered, lambda at, said=messages: Demonstration(said, where=at))
        if record is not None:
            yield LabelledRecord(record, own_words(source, answered, answer, (answer.person,)))


class TalkMapping(KindMapping):
    converters: ClassVar[Converters] = {Comparison: talked, Demonstration: spoken}
    formats = ("preference", "soft", "hh", "rankings", "demonstrations")
    rewards = True


MAPPING = TalkMapping()
