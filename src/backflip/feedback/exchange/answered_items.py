"""Items with what was answered to them, page by page, as they stood at an event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import select

from backflip.feedback.kinds.base import Kind
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.reading import AnswerRow, ItemRow
from backflip.feedback.store.queues import ADJUDICATE
from backflip.feedback.store.schema import Answers
from backflip.feedback.tasks.items import payload_of

PAGE = 500
"""Items that are in memory with their answers."""
PARTS = {"": ("work", "gold", "calibration"), "golden": ("golden",)}
"""Which items are meant: those that are learnt from, and those that are kept for probes."""
SENIOR = (ADJUDICATE, "golden")
QUIZ = "screening"
SILENT = {"both_bad": "both bad", "cannot_tell": "cannot tell"}
"""Verdicts that choose neither."""


@dataclass(frozen=True)
class AnsweredItem:
    """An item and all that was said of it."""

    item: ItemRow
    answers: tuple[AnswerRow, ...]
    """Of raters, the first of each; repeats and the quiz are left out."""
    senior: tuple[AnswerRow, ...]

    @property
    def kind(self) -> Kind[Any, Any]:
        """The kind of the task."""
        return kind_of(self.item.payload["kind"])

    @cached_property
    def payload(self) -> Any:
        """The item in its own order, with sources."""
        return payload_of(self.item.payload, self.kind.name)

    @property
    def truth(self) -> dict[str, Any] | None:
        """The answer that is known: gold, or else the newest word of a senior."""
        if self.item.gold is not None:
            return self.item.gold
        return self.senior[-1].value if self.senior else None

    @cached_property
    def words(self) -> Counter[str]:
        """Raters' answers by verdict, for kinds whose answer is one word."""
        found = (self.kind.word(answer.value) for answer in self.answers)
        return Counter(word for word in found if word)

    @property
    def contested(self) -> bool:
        """Whether as many say that both are bad as say any one thing else."""
        spoken = [count for word, count in self.words.items() if word not in SILENT]
        return bool(spoken) and self.words["both_bad"] >= max(spoken)

    @property
    def said(self) -> tuple[AnswerRow, ...]:
        """All answers that the label rests on."""
        return (*self.answers, *self.senior)


def answered_items(
    project: Project, *, until: int | None = None, part: str = "", repeats: bool = False
) -> Iterator[AnsweredItem]:
    """Items of a part that have an answer, by number, or, being golden, came with one.

    ``repeats``: with the answers of raters who were asked once more.
    """
    purposes = PARTS[part]
    numbers = sorted({*_answered(project, until), *(_golden(project) if part else ())})
    for one in with_answers(project, numbers, until=until, repeats=repeats):
        if one.item.purpose in purposes and (one.said or one.item.gold is not None):
            yield one


def with_answers(
    project: Project, numbers: Sequence[int], *, until: int | None = None, repeats: bool = False
) -> Iterator[AnsweredItem]:
    """These items with all that was said of them, which may be nothing."""
    for start in range(0, len(numbers), PAGE):
        page = numbers[start : start + PAGE]
        rows = project.items(ids=page, limit=PAGE)
        answers: dict[int, list[AnswerRow]] = {}
        for answer in project.answers(until=until, items=page):
            if answer.stage != QUIZ and (repeats or answer.repeat_of is None):
                answers.setdefault(answer.item, []).append(answer)
        for row in rows:
            found = answers.get(row.id, [])
            yield AnsweredItem(row, _of(found, senior=False), _of(found, senior=True))


def _answered(project: Project, until: int | None) -> Sequence[int]:
    """Numbers of the items that anybody answered."""
    query = select(Answers.item_id).where(Answers.project_id == project.id).distinct()
    if until is not None:
        query = query.where(Answers.id <= until)
    with project.ref.database.read() as connection:
        return connection.scalars(query).all()


def _golden(project: Project) -> Iterator[int]:
    """Numbers of the golden items."""
    after = 0
    while rows := project.items(purpose="golden", after=after, limit=PAGE):
        yield from (row.id for row in rows)
        after = rows[-1].id


def _of(answers: Sequence[AnswerRow], *, senior: bool) -> tuple[AnswerRow, ...]:
    return tuple(answer for answer in answers if (answer.stage in SENIOR) == senior)
