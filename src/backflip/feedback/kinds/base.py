"""The kind of a task as one object, which all other code asks.

``compare`` shows two answers, ``steps`` a solution, ``talk`` a conversation. Code outside this
folder knows no kind by name; it asks ``registry.kind_of(name)``.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from backflip.feedback.kinds.fields import Payload, Rubric, Strict
from backflip.feedback.kinds.form import Form
from backflip.feedback.kinds.respondent import Respondent

P = TypeVar("P", bound=Payload)
V = TypeVar("V", bound=Strict)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNSURE = math.nan
Json: TypeAlias = dict[str, Any]
Simulated: TypeAlias = tuple[Json, float]
"""An answer as displayed, and the seconds that it took."""


@dataclass(frozen=True)
class PartValue:
    """One value of an answer, for statistics of agreement."""

    name: str
    """Which part of the item it is about; empty: the whole."""
    value: float
    """Not a number: looked at, but nothing said."""
    first: float = 0.0
    """1 where the part's first answer was displayed first, −1 where second, 0: no sides."""


@dataclass(frozen=True)
class Block:
    """A part of an item as people read it."""

    name: str
    """As the script of the rater's page calls it."""
    content: Any
    form: Literal["markdown", "characters", "draft", "pictures", "scene"] = "markdown"
    """``markdown``: one text or several; ``characters``: a text whose places are counted."""
    numbered: bool = False
    """Whether its texts bear numbers; else letters, where there are several."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """A kind in words for people."""

    title: str
    description: str
    row: str
    """A row or two of data that are items of this kind."""
    subject: str = ""
    """The object of agreement: "on the better answer"."""
    unit: tuple[str, str] = ("item", "items")
    """Things that raters judge: one, several."""
    answers: str = "Answers"
    """Heading of the count of a rater's answers."""
    values: tuple[str, str, str] = ("", "", "")
    """Values below, above and at 0."""
    asks: str = ""
    """An item in one line for raters, where its text would say too much."""


class Kind(ABC, Generic[P, V]):
    """A kind of task. Defaults say "there is nothing of the sort"."""

    name: ClassVar[str]
    place: ClassVar[int]
    """Position among the kinds that people choose from."""
    wording: ClassVar[Wording]
    form: ClassVar[Form]
    """Fields of a worked example."""
    payload: type[P]
    value: type[V]
    column: ClassVar[str]
    """Field of the payload that tells an item from a row of another format."""
    column_needed: ClassVar[bool] = True
    sides: ClassVar[str] = ""
    """Field of the payload whose entries are shuffled for each rater."""
    written: ClassVar[bool] = True
    """Whether the sides are texts, with a length and lists."""
    layout: ClassVar[Literal["one", "two", "many"]] = "one"
    """Columns of an item's parts."""
    golden: ClassVar[bool] = True
    """Whether two answers are the same or not: there are known answers, and disputes."""
    one_word: ClassVar[bool] = False
    """Whether an answer is one word with one score, so that a posterior says how sure it is."""
    paired: ClassVar[bool] = False
    """Whether values have a sign that says which side is better."""
    pairwise: ClassVar[bool] = False
    """Whether parts are pairs of sides, called "0-2"."""
    alike: ClassVar[bool] = True
    """Whether answers can agree at all."""
    readable: ClassVar[bool] = True
    """Whether texts tell its items apart."""
    files: ClassVar[bool] = False
    """Whether the sides are files of the project."""
    live: ClassVar[bool] = False
    """Whether the item is a conversation with policies of the server."""
    attributes: ClassVar[tuple[str, ...]] = ()
    """Usual scales, of kinds whose answers are judged scale by scale."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Settings of the rubric that this kind alone, or with its close kin, has."""
    simulated: ClassVar[bool] = False
    fewest: ClassVar[int] = 0
    """Replies of models that one item needs at least; 0: it shows none."""
    most: ClassVar[int] = 0
    """Replies of models that one item shows at most; 0: any number."""
    exactly: ClassVar[int] = 0
    """Replies of models that one item shows, no more and no fewer; 0: any number."""

    @property
    def two_texts(self) -> bool:
        """Whether an item is two texts with one verdict, so that a model of pairs reads it."""
        return self.one_word and self.written and bool(self.sides)

    def fault(self, value: V, payload: P, settings: Rubric) -> str:
        """The fault of an answer, given its item; empty where there is none."""
        return ""

    def settings_faults(self, settings: Rubric) -> list[str]:
        """Faults of a project's settings."""
        return []

    def sides_of(self, payload: P) -> tuple[Any, ...]:
        """Entries that are shuffled, in the item's own order."""
        return tuple(getattr(payload, self.sides)) if self.sides else ()

    def side_text(self, side: Any) -> str:
        """A side as the text that it is told from others by, whatever its line ends."""
        return side.text.replace("\r\n", "\n").strip()

    def shown(self, payload: Json) -> Json:
        """A displayed payload without the rest that no rater may see; sources are gone already."""
        return payload

    def in_item_order(self, value: Mapping[str, Any], order: Sequence[int]) -> Json:
        """An answer in displayed order, turned into the item's own."""
        return dict(value)

    def in_displayed_order(self, value: Mapping[str, Any], order: Sequence[int]) -> Json:
        """An answer in the item's own order, turned into the displayed one."""
        return dict(value)

    def part_names(self, payload: P, settings: Rubric) -> list[str]:
        """Parts that verdicts are about; the empty name is the whole."""
        return [""]

    def clips(self, payload: P) -> tuple[Any, ...]:
        """Files and addresses that the item shows."""
        return ()

    def policies(self, payload: P) -> tuple[str, ...]:
        """Policies that the item talks with."""
        return ()

    def from_replies(self, prompt: list[Json], answers: list[Json]) -> Iterable[Json]:
        """Items that ask about replies of models to a prompt."""
        return ()

    def word(self, value: Mapping[str, Any]) -> str | None:
        """The verdict as one word."""
        return None

    def words(self, settings: Rubric) -> tuple[str, ...]:
        """Verdicts that say something, so that a posterior can be spread over them."""
        return ()

    def score(self, value: Mapping[str, Any], settings: Rubric) -> float | None:
        """−1 … 1: b much better … a much better, down … up; a tie is 0; none: nothing was said."""
        return None

    def same_as(self, gold: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
        """Whether an answer says what the known one says. Strengths are a matter of taste."""
        return self.word(gold) == self.word(value)

    def values(
        self, value: Mapping[str, Any], order: Sequence[int], settings: Rubric, attribute: str = ""
    ) -> list[PartValue]:
        """An answer as values of its parts, for statistics; ``attribute``: of which scale."""
        if not self.one_word:
            return []
        score = self.score(value, settings)
        return [PartValue("", UNSURE if score is None else score, float(first_shown(order)))]

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        """The item as people read it, but for its prompt."""
        return []

    def gist(self, payload: Mapping[str, Any]) -> str:
        """The question of an item without a prompt."""
        return str((payload.get("answer") or {}).get("text") or "a conversation")

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        """An answer in one line; ``scale``: points of strength."""
        return self.word(value) or ""

    def part_in_words(self, part: str) -> str:
        """The part of an item that a statistic is about."""
        return part

    def value_in_words(self, value: float, part: str = "") -> str:
        """A value of an item, or of a part of it."""
        below, above, even = self.wording.values
        return below if value < 0 else above if value > 0 else even

    def simulate(self, respondent: Respondent, payload: P, settings: Rubric) -> Simulated:
        """An answer of a simulated rater, as displayed, and the seconds that it took.

        Raises ValueError where the kind cannot be simulated.
        """
        raise ValueError(f"Simulated raters cannot do {self.name} tasks.")


def first_shown(order: Sequence[int]) -> int:
    """1 where the item's first answer was displayed first, −1 where second, 0: no two sides."""
    return 0 if len(order) != 2 else 1 if order[0] == 0 else -1
