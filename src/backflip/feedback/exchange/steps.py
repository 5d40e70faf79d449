"""Labelled steps as lessons: what each step is worth, and with it the whole solution."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from backflip.feedback.exchange.answered_items import Asked
from backflip.feedback.exchange.compare import EVEN
from backflip.feedback.exchange.compare import evidence as resting_on
from backflip.feedback.exchange.records import Evidence, Lesson, Source
from backflip.feedback.kinds.tasks import Steps
from backflip.feedback.statistics.consensus import Verdict, even, weight_of

BAD = -1


@dataclass(frozen=True)
class Stepped:
    """The steps of a solution from the first on, as far as they were labelled."""

    one: Asked
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
    for one in source.asked():
        payload = one.payload
        assert isinstance(payload, Steps)
        for labels, proof in _labelled(source, one, payload):
            if not labels:
                source.account.drop("no step has a label", one.item.id)
                continue
            steps = list(payload.steps[: len(labels)])
            whole = len(labels) == len(payload.steps) or labels[-1] == BAD
            evidence = replace(proof, sources=(payload.source,))
            yield Stepped(one, steps, labels, whole, evidence)


def solved(source: Source) -> Iterator[Lesson]:
    """Whole solutions, good where no step is bad; what follows a bad step is left away."""
    for found in stepped(source):
        if not found.whole:
            source.account.drop("labelled in part, and nothing bad so far", found.one.item.id)
            continue
        payload = found.one.payload
        assert isinstance(payload, Steps)
        text, good = "\n".join(found.steps), all(found.good)
        yield from source.label(found.one, payload.prompt, text, good, found.evidence)


def _labelled(source: Source, one: Asked, payload: Steps) -> Iterator[tuple[list[int], Evidence]]:
    """Labels of the steps up to the first that has none, or on which raters are evenly split."""
    if source.per == "answer":
        for answer in one.said:
            right = source.consensus.reliability(answer.person)
            found = Evidence((one,), (answer,), weight=weight_of(right))
            yield _until_none(answer.value["labels"]), found
        return
    judged = [_step(source, one, place) for place in range(len(payload.steps))]
    labels = _until_none([step and step[0] for step in judged])
    halted = judged[len(labels)] if len(labels) < len(judged) else None
    if halted is not None:
        source.account.undecided += 1
        if not labels:
            source.account.drop(EVEN, one.item.id)
            return
    known = [step[1] for step in judged[: len(labels)] if step is not None]
    least = min(known, key=lambda verdict: verdict.posterior, default=None)
    weight = weight_of(least.posterior) if least else 1.0
    yield labels, replace(resting_on(one, least), weight=weight)


def _step(source: Source, one: Asked, place: int) -> tuple[int | None, Verdict] | None:
    """A step's label (none: as many call it bad as do not) and its verdict; none: not judged."""
    verdict = source.verdict(one, str(place))
    if verdict is None:
        return None
    if verdict.known:
        return int(verdict.value), verdict
    marks = [answer.value["labels"][place] for answer in one.answers]
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
