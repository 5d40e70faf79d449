"""Labelled steps: the worth of each step, and with it of the whole solution."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from backflip.data.records import Labelled, Solution
from backflip.data.solutions import CLASSES
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.feedback.exchange.mapping import Converters, KindMapping, as_turns, text_of
from backflip.feedback.exchange.records import Evidence, LabelledRecord, Source, turns
from backflip.feedback.exchange.verdicts import EVEN
from backflip.feedback.exchange.verdicts import evidence as resting_on
from backflip.feedback.kinds.steps import Steps
from backflip.feedback.rating.items import NewItem
from backflip.feedback.statistics.consensus import Verdict, even, weight_of

BAD = -1


@dataclass(frozen=True)
class Stepped:
    """The steps of a solution from the first on, as far as they were labelled."""

    answered: AnsweredItem
    steps: list[str]
    labels: list[int]
    """1 good, 0 neutral, −1 bad."""
    whole: bool
    """Whether all steps of the solution have a label, or labelling ended at a bad one."""
    evidence: Evidence

    @property
    def good(self) -> list[bool]:
        """Neutral steps count as good (Lightman et al., 2023, appendix)."""
        return [label != BAD for label in self.labels]


def stepped(source: Source) -> Iterator[Stepped]:
    """Solutions with their steps' labels, one an item or one an answer."""
    for answered in source.items():
        payload = answered.payload
        for labels, proof in _labelled(source, answered, payload):
            if not labels:
                source.accounting.drop("no step has a label", answered.item.id)
                continue
            steps = list(payload.steps[: len(labels)])
            whole = len(labels) == len(payload.steps) or labels[-1] == BAD
            evidence = replace(proof, sources=(payload.source,))
            yield Stepped(answered, steps, labels, whole, evidence)


def solved(source: Source) -> Iterator[LabelledRecord]:
    """Whole solutions, good where no step is bad; what follows a bad step is left away."""
    for found in stepped(source):
        if not found.whole:
            source.accounting.drop(
                "labelled in part, and nothing bad so far", found.answered.item.id
            )
            continue
        payload = found.answered.payload
        text, good = "\n".join(found.steps), all(found.good)
        yield from source.label(found.answered, payload.prompt, text, good, found.evidence)


def _labelled(
    source: Source, answered: AnsweredItem, payload: Steps
) -> Iterator[tuple[list[int], Evidence]]:
    """Labels of the steps up to the first that has none, or on which raters are evenly split."""
    if source.per == "answer":
        for answer in answered.said:
            right = source.consensus.reliability(answer.person)
            found = Evidence((answered,), (answer,), weight=weight_of(right))
            yield _until_none(answer.value["labels"]), found
        return
    judged = [_step(source, answered, place) for place in range(len(payload.steps))]
    labels = _until_none([step and step[0] for step in judged])
    halted = judged[len(labels)] if len(labels) < len(judged) else None
    if halted is not None:
        source.accounting.undecided += 1
        if not labels:
            source.accounting.drop(EVEN, answered.item.id)
            return
    known = [step[1] for step in judged[: len(labels)] if step is not None]
    least = min(known, key=lambda verdict: verdict.posterior, default=None)
    weight = weight_of(least.posterior) if least else 1.0
    yield labels, replace(resting_on(answered, least), weight=weight)


def _step(source: Source, answered: AnsweredItem, place: int) -> tuple[int | None, Verdict] | None:
    """A step's label (none: as many call it bad as do not) and its verdict; none: not judged."""
    verdict = source.verdict(answered, str(place))
    if verdict is None:
        return None
    if verdict.known:
        return int(verdict.value), verdict
    marks = [answer.value["labels"][place] for answer in answered.answers]
    given = Counter(mark for mark in marks if mark is not None)
    bad, fine = given[BAD], given[0] + given[1]
    if not math.isnan(verdict.value) and bad != fine:
        return int(verdict.value), verdict
    if even([bad, fine]):
        return None, verdict
    return (BAD if bad > fine else int(given[1] > given[0])), verdict


def _until_none(labels: Sequence[int | None]) -> list[int]:
    found = list[int]()
    for given in labels:
        if given is None:
            break
        found.append(given)
    return found


def solutions(source: Source) -> Iterator[LabelledRecord]:
    """Solutions with the labels of their steps, as far as these were given."""
    for found in stepped(source):
        payload = found.answered.payload
        record = source.attempt(
            found.answered,
            lambda where, found=found, payload=payload: Solution(
                turns(payload.prompt),
                tuple(found.steps),
                tuple(CLASSES[label] for label in found.labels),
                finished=len(found.steps) == len(payload.steps),
                weight=found.evidence.weight,
                where=where,
            ),
        )
        if record is not None:
            yield LabelledRecord(record, found.evidence)


class StepsMapping(KindMapping):
    converters: ClassVar[Converters] = {Solution: solutions, Labelled: solved}
    readable = (Labelled, Solution)
    formats = ("unpaired", "kto", "stepwise")

    def from_label(self, record: Labelled, *, gold: bool) -> Iterator[NewItem]:
        """The lines of a solution as its steps."""
        lines = [line for line in text_of(record.answer).splitlines() if line.strip()]
        yield NewItem({"prompt": as_turns(record.prompt), "steps": lines})

    def from_solution(self, record: Solution, *, gold: bool) -> Iterator[NewItem]:
        """Its steps; as the right answer the likeliest class of each, up to the first without."""
        labels = [None if b is None else b.index(max(b)) - 1 for b in record.labels]
        known: list[int | None] = [*_until_none(labels)]
        known += [None] * (len(labels) - len(known))
        payload = {"prompt": as_turns(record.prompt), "steps": list(record.steps)}
        yield NewItem(payload, gold={"labels": known} if gold and known[0] is not None else None)


MAPPING = StepsMapping()
