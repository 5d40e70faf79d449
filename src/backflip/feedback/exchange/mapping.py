"""The exchange of one kind of task: records to learn from, rows of data, answers of other tools.

``exchange/rank.py`` holds what the kind "rank" exchanges, as ``MAPPING``; a kind without a file
exchanges nothing but items, labels and answers as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, TypeAlias

from backflip.data.conversions import whole
from backflip.data.records import (
    Comparison,
    Demonstration,
    Labelled,
    Message,
    Messages,
    Prompt,
    Record,
    Solution,
)
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.feedback.exchange.records import LabelledRecord, Source
from backflip.feedback.exchange.tool_values import Read, Values
from backflip.feedback.kinds.base import Kind
from backflip.feedback.kinds.registry import every_kind
from backflip.feedback.rating.items import NewItem
from backflip.feedback.tasks.settings import ProjectSettings

Converter: TypeAlias = Callable[[Source], Iterator[LabelledRecord]]
Converters: TypeAlias = Mapping[type[Record], Converter]
ROOM = "backflip.feedback.exchange"


class ToolQuestion(ABC):
    """A kind as other annotation tools ask it: Argilla by fields and questions, Label Studio by a
    page.
    """

    needed: ClassVar[int] = 1
    """Answers that an item has at least."""
    exact: ClassVar[bool] = False
    """Whether it may not have more."""
    alone: ClassVar[bool] = False
    """Whether a text may stand without a prompt."""
    required: ClassVar[bool] = True
    """Whether every item has all texts of the question."""

    def payload(self, answers: list[dict[str, Any]]) -> dict[str, Any]:
        """The item's own fields, of its answers."""
        return {"answer": answers[0]}

    @abstractmethod
    def read(self, values: Values, names: Sequence[str], settings: ProjectSettings) -> Read:
        """An answer, of values by question. Raises BadRecordError where they are none.

        ``names``: the document's names of its answers, in order.
        """

    def settings(self, used: Any) -> dict[str, Any]:
        """Settings of a project that fits what a file uses (``suggest.Used``)."""
        return {}

    def texts(self, widest: int) -> list[str]:
        """Names of the texts beside the prompt; ``widest``: answers of the item with most."""
        return ["response_1"]

    @abstractmethod
    def questions(self, settings: ProjectSettings, names: Sequence[str]) -> list[dict[str, Any]]:
        """Argilla's questions, but for the reason."""

    @abstractmethod
    def responses(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """An answer by Argilla's questions."""

    @abstractmethod
    def page(self, settings: ProjectSettings) -> list[str]:
        """Elements of a labelling page, but for the reason."""

    def data(self, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Texts of a task of Label Studio's."""
        return {f"answer{place}": one["text"] for place, one in enumerate(answers, start=1)}

    @abstractmethod
    def results(
        self, value: Mapping[str, Any], payload: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """An answer as results of Label Studio's."""


class KindMapping:
    """The exchange of one kind."""

    converters: ClassVar[Converters] = {}
    """Records that a project yields, the native ones first."""
    readable: ClassVar[tuple[type[Record], ...]] = ()
    """Records of other formats that become items."""
    formats: ClassVar[tuple[str, ...]] = ()
    """Formats of exports beside those that every kind has."""
    rewards: ClassVar[bool] = False
    """Whether a reward model of texts can learn from it."""
    question: ClassVar[ToolQuestion | None] = None
    text_field: ClassVar[str] = "answer"
    """Field of the payload for a single text of a record."""
    scored: ClassVar[bool] = False
    """Whether people judge replies of a policy by it."""

    def scores(self, source: Source, answered: AnsweredItem) -> Mapping[str, float]:
        """Scores from −1 to 1 of an item's answers, by text; not a number: nobody could tell."""
        return {}

    def items(self, record: Record, *, gold: bool) -> Iterable[NewItem]:
        """Items of a record; ``gold``: with the label in it as the right answer."""
        match record:
            case Comparison():
                return self.from_comparison(record, gold=gold)
            case Demonstration():
                return [self.single(record.messages[:-1], record.messages[-1].content)]
            case Labelled():
                return self.from_label(record, gold=gold)
            case Solution():
                return self.from_solution(record, gold=gold)
            case Prompt():
                return [NewItem({"prompt": as_turns(record.messages)})]

    def from_comparison(self, record: Comparison, *, gold: bool) -> Iterator[NewItem]:
        """Each answer by itself; the best is good."""
        for answer, rank in zip(record.answers, record.rank, strict=True):
            known = self.known(rank == 0) if gold else None
            yield self.single(record.prompt, text_of(answer), known)

    def from_label(self, record: Labelled, *, gold: bool) -> Iterator[NewItem]:
        """The answer, with its label as the right one."""
        known = self.known(record.label) if gold else None
        yield self.single(record.prompt, text_of(record.answer), known)

    def from_solution(self, record: Solution, *, gold: bool) -> Iterator[NewItem]:
        """The whole solution, good where no step is bad."""
        yield from self.from_label(whole(record), gold=gold)

    def known(self, good: bool) -> dict[str, Any] | None:
        """The right answer to a text that is good or bad; none: that says too little."""
        return None

    def single(self, prompt: Messages, text: str, gold: dict[str, Any] | None = None) -> NewItem:
        """An item of one text."""
        return NewItem({"prompt": as_turns(prompt), self.text_field: {"text": text}}, gold=gold)


@cache
def mapping_of(kind: str) -> KindMapping:
    """The exchange of a kind."""
    name = f"{ROOM}.{kind}"
    return import_module(name).MAPPING if find_spec(name) else KindMapping()


def kinds_where(holds: Callable[[KindMapping], Any]) -> list[Kind[Any, Any]]:
    """Kinds whose exchange has something."""
    return [kind for kind in every_kind() if holds(mapping_of(kind.name))]


def as_turns(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Messages as an item has them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def text_of(answer: Messages) -> str:
    """An answer's text; one of several turns names its speakers."""
    if len(answer) == 1:
        return answer[0].content
    return "\n\n".join(f"**{m.role.capitalize()}:** {m.content}" for m in answer)
