"""Comparisons of two: pairs with ties and margins, or each answer as good or bad."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from backflip.data.records import BadRecordError, Comparison, Labelled
from backflip.feedback.exchange.answered_items import SILENT, AnsweredItem
from backflip.feedback.exchange.mapping import (
    Converters,
    KindMapping,
    ToolQuestion,
    as_turns,
    text_of,
)
from backflip.feedback.exchange.records import LabelledRecord, Source, turns
from backflip.feedback.exchange.tool_parts import ANSWER, PROMPT, choices, points, rating, result
from backflip.feedback.exchange.tool_values import (
    STRENGTH,
    WHY,
    Read,
    Values,
    ranks_of,
    seen,
    side_of,
    whole,
)
from backflip.feedback.exchange.verdicts import Vote, toss, votes
from backflip.feedback.kinds.rank import KIND as RANK
from backflip.feedback.rating.items import NewItem
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.text import counted

SIDELESS = ("tie", "both_bad", "cannot_tell")
RESPONSES = {"a": "response_1", "b": "response_2"}

# ---- records


def compared(source: Source) -> Iterator[LabelledRecord]:
    """Comparisons of two; ties among them, and even splits, which rank neither answer first."""
    for answered in source.items():
        for vote in votes(source, answered):
            if vote.silent:
                source.accounting.drop(SILENT[vote.silent], answered.item.id)
            elif (record := _comparison(source, answered, vote)) is not None:
                yield record


def _comparison(source: Source, answered: AnsweredItem, vote: Vote) -> LabelledRecord | None:
    payload = answered.payload
    decided = vote.side in (1.0, -1.0)
    source.accounting.tied += vote.side == 0
    source.accounting.undecided += math.isnan(vote.side)
    record = source.comparison(
        answered,
        turns(payload.prompt),
        [answer.text for answer in payload.answers],
        {1.0: (0, 1), -1.0: (1, 0)}.get(vote.side, (0, 0)),
        margin=_margin(source, vote) if decided else 0.0,
        soft=vote.soft if decided else 0.5,
    )
    sources = tuple(answer.source for answer in payload.answers)
    split = frozenset({(0, 1)} if math.isnan(vote.side) else ())
    proof = replace(vote.evidence, sources=sources, split=split)
    return None if record is None else LabelledRecord(record, proof)


def _margin(source: Source, vote: Vote) -> float:
    """Llama 2's m(r) for the side that won: 0 a little better … 1 significantly better.

    Touvron et al. (2023, table 27), strengths in even steps; the mean over all who chose, those
    for the other side counting against it, and at least 0.
    """
    truth = vote.evidence.items[0].truth
    values = [(a.value, source.rubrics[a.rubric_version]) for a in vote.evidence.answers]
    if vote.evidence.known and truth:
        values = [(truth, source.settings)]
    found = list[float]()
    for value, rubric in values:
        if value["choice"] not in SILENT:
            side = {"a": 1.0, "b": -1.0}.get(value["choice"], 0.0)
            strength = (value.get("strength", 1) - 1) / max(rubric.levels - 1, 1)
            found.append(side * vote.side * min(1.0, strength))
    return max(sum(found) / len(found), 0.0) if found else 0.0


def compared_apart(source: Source) -> Iterator[LabelledRecord]:
    """The better answer good, the other bad; or both bad, which a pair cannot say."""
    for answered in source.items():
        for vote in votes(source, answered):
            if vote.silent == "both_bad":
                yield from _each(source, answered, vote, (False, False))
            elif vote.silent:
                source.accounting.drop(SILENT[vote.silent], answered.item.id)
            elif vote.side in (1.0, -1.0):
                yield from _each(source, answered, vote, (vote.side > 0, vote.side < 0))
            else:
                toss(source, answered, vote)


def _each(
    source: Source, answered: AnsweredItem, vote: Vote, labels: tuple[bool, bool]
) -> Iterator[LabelledRecord]:
    payload = answered.payload
    for answer, good in zip(payload.answers, labels, strict=True):
        found = replace(vote.evidence, sources=(answer.source,))
        yield from source.label(answered, payload.prompt, answer.text, good, found)


def _scores(source: Source, answered: AnsweredItem) -> Mapping[str, float]:
    """2P(a is better) − 1 for a; 0 where both are bad, not a number where nobody could tell."""
    a, b = (answer.text.strip() for answer in answered.payload.answers)
    (vote,) = votes(source, answered)
    if vote.silent:
        score = 0.0 if vote.silent == "both_bad" else math.nan
    else:
        verdict = source.verdict(answered)
        score = math.nan if verdict is None else 2 * verdict.p_first - 1
    return {a: score, b: -score}


# ---- other tools


class CompareQuestion(ToolQuestion):
    needed, exact = 2, True

    def payload(self, answers: list[dict[str, Any]]) -> dict[str, Any]:
        return {"answers": answers}

    def read(self, values: Values, names: Sequence[str], settings: ProjectSettings) -> Read:
        for name, value in values.items():
            if isinstance(value, list) and (ranks := ranks_of(value, names)) is not None:
                a, b = (len(names) if rank is None else rank for rank in ranks)
                choice = "tie" if a == b else "a" if a < b else "b"
                return {"choice": choice, "strength": 1}, {name}
        asked = {n: value for n, value in values.items() if n not in (*WHY, STRENGTH)}
        texts = {n: value for n, value in asked.items() if isinstance(value, str)}
        # A number is a side only where nothing else was asked: else it may be a mark.
        for name, value in (texts or (asked if len(asked) == 1 else {})).items():
            choice = side_of(value, names)
            if choice is not None:
                level = whole(values.get(STRENGTH)) or 1
                strength = min(max(level, 1), settings.levels)
                return {"choice": choice, "strength": strength}, {name, STRENGTH}
        raise BadRecordError("no answer says which side is better", f"seen: {seen(values)}")

    def settings(self, used: Any) -> dict[str, Any]:
        return {"scale": max(4, min(8, 2 * used.strength))}

    def texts(self, widest: int) -> list[str]:
        return list(RESPONSES.values())

    def questions(self, settings: ProjectSettings, names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"name": "preference", "type": "label", "labels": [*names, *SIDELESS]},
            {"name": STRENGTH, "type": "rating", "values": points(1, settings.levels)},
        ]

    def responses(self, value: Mapping[str, Any]) -> dict[str, Any]:
        choice = value["choice"]
        if choice in RESPONSES:
            return {"preference": RESPONSES[choice], STRENGTH: value["strength"]}
        return {"preference": choice}

    def page(self, settings: ProjectSettings) -> list[str]:
        return [
            PROMPT,
            '<Pairwise name="preference" toName="answer1,answer2"/>',
            ANSWER,
            '<Text name="answer2" value="$answer2"/>',
            rating(STRENGTH, "prompt", settings.levels),
            choices("verdict", "prompt", SIDELESS),
        ]

    def results(
        self, value: Mapping[str, Any], payload: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Pairwise has two sides; all other verdicts are choices."""
        sides = {"a": "left", "b": "right"}
        if value["choice"] in sides:
            selected = {"selected": sides[value["choice"]]}
            yield result("preference", "answer1,answer2", "pairwise", selected)
            yield result(STRENGTH, "prompt", "rating", {"rating": value["strength"]})
        else:
            yield result("verdict", "prompt", "choices", {"choices": [value["choice"]]})


class CompareMapping(KindMapping):
    converters: ClassVar[Converters] = {Comparison: compared, Labelled: compared_apart}
    readable = (Comparison,)
    formats = ("preference", "soft", "hh", "rankings", "unpaired", "kto")
    rewards = True
    question = CompareQuestion()
    scored = True

    def scores(self, source: Source, answered: AnsweredItem) -> Mapping[str, float]:
        return _scores(source, answered)

    def from_comparison(self, record: Comparison, *, gold: bool) -> Iterator[NewItem]:
        if len(record.answers) != 2:
            raise BadRecordError(
                f"{counted(len(record.answers), 'answer')} where compare needs 2",
                f"make a project of kind {RANK.name}, which takes any number",
            )
        tie = {"choice": "tie"}
        side = tie if record.tied else {"choice": "ab"[record.rank.index(0)], "strength": 1}
        answers = [{"text": text_of(answer)} for answer in record.answers]
        payload = {"prompt": as_turns(record.prompt), "answers": answers}
        yield NewItem(payload, gold=side if gold else None)


MAPPING = CompareMapping()
