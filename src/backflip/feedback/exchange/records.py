"""A project as a source of records, each with the evidence for it.

One row an item, its label aggregated over raters (``consensus``), or one row an answer. A label is
soft: P(the better one is better) of all that was said, a tie counting half. A hard one takes the
likelier side with the weight 2P − 1, which pulls as hard where the model has no opinion yet. Where
raters are evenly split there is no hard label; the soft one is ½.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar

from backflip.data.records import (
    BadRecordError,
    Comparison,
    Labelled,
    Message,
    Messages,
    Provenance,
    Record,
)
from backflip.feedback.exchange.accounting import Accounting
from backflip.feedback.exchange.answered_items import AnsweredItem, answered_items
from backflip.feedback.kinds.fields import Turn
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.reading import AnswerRow
from backflip.feedback.projects.redaction import REDACTED
from backflip.feedback.statistics.consensus import Consensus, Verdict
from backflip.feedback.tasks.settings import ProjectSettings

Per: TypeAlias = Literal["item", "answer"]
R = TypeVar("R", bound=Record)
CHANGES = 100_000
"""More versions than any rubric has."""


@dataclass(frozen=True)
class Evidence:
    """The answers that a record rests on, and how sure it is."""

    items: tuple[AnsweredItem, ...]
    answers: tuple[AnswerRow, ...]
    posterior: float | None = None
    """P(the label), of all that was said."""
    low: float | None = None
    """Of its 95 % error bar."""
    high: float | None = None
    weight: float = 1.0
    """Of the label where it is taken as a hard one."""
    sources: tuple[str, ...] = ()
    """Which model wrote each of the record's answers."""
    known: bool = False
    """Whether the label is gold or a senior's word."""
    pairs: Mapping[tuple[int, int], Verdict] = field(default_factory=dict)
    """Of a ranking, by two of its answers: which is better."""
    split: frozenset[tuple[int, int]] = frozenset()
    """Two of the record's answers on which raters are evenly split: neither is better, and neither
    did they call it a tie."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Columns of a kind's own."""


@dataclass(frozen=True)
class LabelledRecord:
    """A record and its evidence."""

    record: Record
    evidence: Evidence

    @property
    def undecided(self) -> bool:
        """Whether raters are evenly split on all of it, so that no hard label can be had."""
        record = self.record
        tied = isinstance(record, Comparison) and len(set(record.rank)) == 1
        return tied and bool(self.evidence.split)


class Source:
    """One project as it stood at an event."""

    def __init__(
        self, project: Project, *, until: int | None = None, part: str = "", per: Per = "item"
    ) -> None:
        self.project = project
        self.until = project.newest_event() if until is None else until
        self.rubrics = {version: settings for version, _, settings in project.rubrics()}
        """Settings by version."""
        self.settings: ProjectSettings = self.rubrics[_version(project, self.until)]
        """As they were at the event."""
        self.part, self.per = part, per
        self.name = f"feedback:{project.name}{f':{part}' if part else ''}@{self.until}"
        self.accounting = Accounting(self.name)

    @property
    def kind(self) -> str:
        return self.settings.kind

    @cached_property
    def consensus(self) -> Consensus:
        """Labels and reliabilities, as of the event."""
        return Consensus(self.project.judgements(until=self.until))

    def items(self) -> Iterator[AnsweredItem]:
        """The items, each counted."""
        for one in answered_items(self.project, until=self.until, part=self.part):
            self.accounting.see(one)
            yield one

    def verdict(self, answered: AnsweredItem, part: str = "") -> Verdict | None:
        """The label of an item or of a part of it; its truth where that is known."""
        if answered.truth is not None:
            known = {
                p.name: p.value
                for p in kind_of(self.kind).values(answered.truth, (), self.settings)
            }
            if part not in known:
                return None
            value = known[part]
            side = float(value > 0) - float(value < 0) if kind_of(self.kind).paired else value
            return Verdict.certain(side, len(answered.answers))
        verdict = self.consensus.of(name_of(answered, part))
        if verdict is not None and not verdict.known and answered.contested:
            return replace(verdict, value=math.nan)
        return verdict

    def attempt(self, answered: AnsweredItem, make: Callable[[Provenance], R]) -> R | None:
        """A record; none where nothing can be learnt from it, which is counted with the reason."""
        try:
            return make(Provenance(self.name, answered.item.id))
        except BadRecordError as error:
            self.accounting.drop(error.reason, answered.item.id)
            return None

    def comparison(
        self,
        answered: AnsweredItem,
        prompt: Messages,
        texts: Sequence[str],
        rank: tuple[int, ...],
        **more: Any,
    ) -> Comparison | None:
        """Texts in order; none where one of them is empty."""
        return self.attempt(
            answered,
            lambda where: Comparison(
                prompt, tuple(reply(text) for text in texts), rank, where=where, **more
            ),
        )

    def label(
        self,
        answered: AnsweredItem,
        prompt: tuple[Turn, ...],
        text: str,
        good: bool,
        evidence: Evidence,
    ) -> Iterator[LabelledRecord]:
        """A reply called good or bad, unless it is empty."""
        record = self.attempt(
            answered,
            lambda where: Labelled(
                turns(prompt), reply(text), good, weight=evidence.weight, where=where
            ),
        )
        if record is not None:
            yield LabelledRecord(record, evidence)


def name_of(answered: AnsweredItem, part: str = "") -> str:
    """Name of an item, or of a part of it, among the judgements."""
    return f"{answered.item.id}:{part}" if part else str(answered.item.id)


def _version(project: Project, until: int) -> int:
    """Version of the rubric at an event."""
    kinds = ("project", "settings")
    changes = project.events(kinds=kinds, until=until, limit=CHANGES)
    version = changes[-1].rubric_version if changes else None
    return min(v for v, _, _ in project.rubrics()) if version is None else version


def turns(prompt: tuple[Turn, ...]) -> Messages:
    """Turns of an item as messages; those that say nothing are left out."""
    return tuple(message(turn.role, turn.content) for turn in prompt if turn.content.strip())


def reply(text: str) -> Messages:
    """An answer as messages. Raises BadRecordError for one that is empty or redacted."""
    return (message("assistant", text),)


def message(role: str, text: str) -> Message:
    """A message. Raises BadRecordError for words that are empty or redacted."""
    if text.strip() == REDACTED:
        raise BadRecordError("redacted", "whoever wrote it has taken it back")
    return Message(role, text)
