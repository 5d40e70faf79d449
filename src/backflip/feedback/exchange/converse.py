"""Written replies and talks as lessons: what people wrote or picked, turn by turn.

Every talk is one rater's own, so nothing is aggregated: a row is a choice that was made once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from backflip.data.records import BadRecordError, Demonstration, Messages, Provenance
from backflip.feedback.exchange.answered_items import Asked
from backflip.feedback.exchange.records import Evidence, Lesson, Source, message, reply, turns
from backflip.feedback.kinds.tasks import Talk, Write
from backflip.feedback.projects.reading import AnswerRow
from backflip.feedback.statistics.consensus import weight_of

UNUSED = "nothing to choose between in the whole talk"
UNWRITTEN = "the rater wrote no reply in the talk"


def _evidence(source: Source, one: Asked, answer: AnswerRow, sources: Sequence[str]) -> Evidence:
    senior = answer in one.senior
    weight = 1.0 if senior else weight_of(source.consensus.reliability(answer.person))
    return Evidence((one,), (answer,), weight=weight, sources=tuple(sources), known=senior)


# ---- written replies


def written(source: Source) -> Iterator[Lesson]:
    """Replies to imitate."""
    for one in source.asked():
        payload = one.payload
        assert isinstance(payload, Write)
        for answer in one.said:
            record = source.attempt(
                one, partial(_whole, turns(payload.prompt), answer.value["text"])
            )
            if record is not None:
                yield Lesson(record, _evidence(source, one, answer, (answer.person,)))


def _whole(prompt: Messages, text: str, where: Provenance) -> Demonstration:
    return Demonstration(prompt + reply(text), where=where)


def improved(source: Source) -> Iterator[Lesson]:
    """Drafts that were made better: the better text above the draft."""
    for one in source.asked():
        payload = one.payload
        assert isinstance(payload, Write)
        for answer in one.said:
            text, draft = answer.value["text"], payload.draft
            if draft is None or not answer.value["from_draft"]:
                source.account.drop("written without a draft", one.item.id)
                continue
            if text.strip() == draft.text.strip():
                source.account.drop("the draft was left as it was", one.item.id)
                continue
            record = source.comparison(one, turns(payload.prompt), [text, draft.text], (0, 1))
            if record is not None:
                sources = (answer.person, draft.source)
                yield Lesson(record, _evidence(source, one, answer, sources))


# ---- talks


def talked(source: Source) -> Iterator[Lesson]:
    """Every turn at which the rater ranked, picked or wrote, as a comparison of its own."""
    for one in source.asked():
        for answer in one.said:
            made = list(_choices(source, one, answer))
            if not made:
                source.account.drop(UNUSED, one.item.id)
            yield from made


def _choices(source: Source, one: Asked, answer: AnswerRow) -> Iterator[Lesson]:
    for number, before, turn in _turns(one, answer):
        texts, rank, sources = _ordered(one, turn)
        if len(set(rank)) < 2:
            continue
        record = source.comparison(one, before, texts, rank)
        if record is not None:
            found = _evidence(source, one, answer, sources)
            yield Lesson(record, replace(found, more={"turn": number}))


def _turns(one: Asked, answer: AnswerRow) -> Iterator[tuple[int, Messages, dict[str, Any]]]:
    """(number, all before it, the turn) of what the assistant said with something to choose."""
    payload = one.payload
    assert isinstance(payload, Talk)
    before = turns(payload.opening)
    for number, turn in enumerate(answer.value["turns"], start=1):
        if turn["role"] == "assistant" and turn["candidates"]:
            yield number, before, turn
        try:
            before = (*before, message(turn["role"], turn["content"]))
        except BadRecordError:  # empty or redacted: what follows has no context to be learnt in
            return


def _ordered(
    one: Asked, turn: dict[str, Any]
) -> tuple[list[str], tuple[int, ...], tuple[str, ...]]:
    """Texts of a turn, each once, with their ranks and writers: own words above what was offered.

    Without ranks, what was picked stands above the others, which share a place.
    """
    payload = one.payload
    assert isinstance(payload, Talk)
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


def spoken(source: Source) -> Iterator[Lesson]:
    """What raters wrote: edited replies, or a whole talk in which they are the assistant.

    An edited reply comes with all that led to it; recipes with ``turns: last`` learn it alone.
    """
    for one in source.asked():
        for answer in one.said:
            made = list(_written(source, one, answer))
            if not made:
                source.account.drop(UNWRITTEN, one.item.id)
            yield from made


def _written(source: Source, one: Asked, answer: AnswerRow) -> Iterator[Lesson]:
    payload = one.payload
    assert isinstance(payload, Talk)
    whole = turns(payload.opening)
    ends = list[Messages]()
    for turn in answer.value["turns"]:
        try:
            whole = (*whole, message(turn["role"], turn["content"]))
        except BadRecordError as error:
            source.account.drop(error.reason, one.item.id)
            break
        if turn["role"] == "assistant" and (turn["edited"] or payload.role == "assistant"):
            ends.append(whole)
    if payload.role == "assistant":
        ends = ends[-1:]
    for messages in ends:
        record = source.attempt(one, lambda at, said=messages: Demonstration(said, where=at))
        if record is not None:
            yield Lesson(record, _evidence(source, one, answer, (answer.person,)))
