"""Judgements as columns that grow: each call reads only what has happened since the last one.

A million answers are read once; after that a statistic costs what is new.
"""

from __future__ import annotations

import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Text, select, type_coerce

from backflip.feedback.kinds.base import UNSURE, PartValue
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.store import events
from backflip.feedback.store.project_ref import ProjectRef
from backflip.feedback.store.queues import ADJUDICATE
from backflip.feedback.store.schema import Answers, AnyRow, Events, Items, People
from backflip.feedback.tasks.identity import sides_of
from backflip.feedback.tasks.items import payload_of
from backflip.feedback.tasks.settings import ProjectSettings

SENIOR = (ADJUDICATE, "golden")
"""Stages whose answers are the truth that others are held against, not judgements among others."""
LEFT_OUT = ("screening",)


@dataclass(frozen=True)
class Keys:
    """Judged things: whole items, or parts of them (12, or 12:0-2)."""

    number: dict[str, int] = field(default_factory=dict)
    gold: array[float] = field(default_factory=lambda: array("d"))
    length: array[float] = field(default_factory=lambda: array("d"))
    lists: array[float] = field(default_factory=lambda: array("d"))
    sides: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Rows:
    """One entry for each value of each answer, in the order of events."""

    event: array[int] = field(default_factory=lambda: array("q"))
    undone: array[int] = field(default_factory=lambda: array("q"))
    """The event that took it back; 0: none."""
    key: array[int] = field(default_factory=lambda: array("q"))
    person: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))
    first: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    at: array[float] = field(default_factory=lambda: array("d"))
    rubric: array[int] = field(default_factory=lambda: array("q"))
    repeat: array[int] = field(default_factory=lambda: array("b"))
    senior: array[int] = field(default_factory=lambda: array("b"))

    def add(self, row: AnyRow, key: int, person: int, part: PartValue) -> None:
        self.event.append(row.id)
        self.undone.append(row.undone or 0)
        self.key.append(key)
        self.person.append(person)
        self.value.append(part.value)
        self.first.append(part.first)
        self.seconds.append(math.nan if row.seconds is None else row.seconds)
        self.at.append(row.at)
        self.rubric.append(row.rubric_version)
        self.repeat.append(row.repeat_of is not None)
        self.senior.append(row.stage in SENIOR)

    def take_back(self, event: int, by: int) -> None:
        """Mark all values of an answer as taken back by a later event."""
        for place in range(bisect_left(self.event, event), bisect_right(self.event, event)):
            self.undone[place] = by


class Columns:
    """All that has been read of a project so far."""

    def __init__(self, ref: ProjectRef, kind: str, attribute: str) -> None:
        self.ref = ref
        self.kind = kind
        self.attribute = attribute
        self.keys = Keys()
        self.rows = Rows()
        self.people: dict[int, int] = {}
        self.names: list[str] = []
        self.upto = 0
        """The newest event that has been read."""
        self.lock = threading.Lock()
        self.last: tuple[Any, Judgements] | None = None
        """The last request, and its result."""

    def read(self, connection: Connection, settings: ProjectSettings) -> None:
        """Read on to the newest event."""
        newest = events.newest(connection, self.ref.id)
        if newest == self.upto:
            return
        fresh = (
            Answers.project_id == self.ref.id,
            Answers.id > self.upto,
            Answers.id <= newest,
            Answers.stage.not_in(LEFT_OUT),
        )
        found = self._items(connection, fresh, settings)
        plain = kind_of(settings.kind).one_word
        columns = _PLAIN if plain else (Answers,)
        query = select(*columns).where(*fresh).order_by(Answers.id)
        for row in connection.execute(query):
            person = self._person(connection, row.person_id)
            for part in _scored(row) if plain else self._parts(row, settings):
                key = self._key(row.item_id, part.name, found, settings)
                self.rows.add(row, key, person, part)
        undos = select(Events.id, Events.body).where(
            Events.project_id == self.ref.id,
            Events.kind == "undo",
            Events.id > self.upto,
            Events.id <= newest,
        )
        for event, body in connection.execute(undos):
            self.rows.take_back(body["answer"], event)
        self.upto = newest

    def _parts(self, row: AnyRow, settings: ProjectSettings) -> list[PartValue]:
        return kind_of(self.kind).values(row.value, row.order, settings, self.attribute)

    def _items(
        self, connection: Connection, fresh: tuple[Any, ...], settings: ProjectSettings
    ) -> dict[int, AnyRow]:
        """Items that have new answers; their texts only where parts of them are compared."""
        columns = [Items.id, Items.gold, Items.length, Items.lists, Items.left, Items.right]
        if kind_of(self.kind).pairwise:
            columns.append(Items.payload)
        answered = select(Answers.item_id).where(*fresh)
        query = select(*columns).where(Items.id.in_(answered))
        return {row.id: row for row in connection.execute(query)}

    def _person(self, connection: Connection, person: int) -> int:
        if person not in self.people:
            name = select(People.pseudonym).where(People.id == person)
            self.names.append(connection.scalars(name).one())
            self.people[person] = len(self.people)
        return self.people[person]

    def _key(
        self, item: int, part: str, found: dict[int, AnyRow], settings: ProjectSettings
    ) -> int:
        """The number of what is judged; new ones get their gold and features here."""
        name, keys = f"{item}:{part}" if part else str(item), self.keys
        if name in keys.number:
            return keys.number[name]
        row = found[item]
        keys.number[name] = len(keys.number)
        keys.gold.append(self._gold(row, part, settings))
        left, right = row.left, row.right
        length, lists = row.length, row.lists
        if kind_of(self.kind).pairwise:
            payload = payload_of(row.payload, self.kind)
            a, b = (sides_of(payload)[int(place)] for place in part.split("-"))
            left, right = a.number, b.number
            length, lists = a.length - b.length, a.lists - b.lists
        keys.length.append(math.nan if length is None else length)
        keys.lists.append(math.nan if lists is None else lists)
        keys.sides.append((left, right) if left is not None else (f"{name} a", f"{name} b"))
        return keys.number[name]

    def _gold(self, row: AnyRow, part: str, settings: ProjectSettings) -> float:
        if row.gold is None:
            return math.nan
        known = kind_of(self.kind).values(row.gold, (), settings, self.attribute)
        return next((one.value for one in known if one.name == part), math.nan)

    def judgements(self, until: int | None, groups: dict[str, dict[str, str]]) -> Judgements:
        """Judgements that stood at an event. Answers of seniors become gold where there is none."""
        end = self.upto if until is None else until
        wish = (self.upto, end, groups)
        if self.last is None or self.last[0] != wish:
            self.last = (wish, self._judgements(end, groups))
        return self.last[1]

    def _judgements(self, end: int, groups: dict[str, dict[str, str]]) -> Judgements:
        rows = self.rows
        event, undone = np.array(rows.event), np.array(rows.undone)
        stands = (event <= end) & ((undone == 0) | (undone > end))
        senior = np.array(rows.senior, dtype=bool)
        gold = np.array(self.keys.gold)
        key, value = np.array(rows.key), np.array(rows.value)
        ruled = stands & senior & ~np.isnan(value)
        open_to = ruled & np.isnan(gold[key]) if len(key) else ruled
        gold[key[open_to]] = value[open_to]
        kept = np.flatnonzero(stands & ~senior)
        item, places = _compact(key[kept])
        rater, people = _compact(np.array(rows.person)[kept])
        names, raters = list(self.keys.number), [self.names[person] for person in people]
        numbers = {side: n for n, side in enumerate(dict.fromkeys(self._sides(places)))}
        return Judgements.of(
            item,
            rater,
            value[kept],
            first=np.array(rows.first)[kept],
            seconds=np.array(rows.seconds)[kept],
            at=np.array(rows.at)[kept],
            rubric=np.array(rows.rubric)[kept],
            repeat=np.array(rows.repeat, dtype=bool)[kept],
            gold=gold[places],
            features=self._features(places),
            answers=np.array([numbers[s] for s in self._sides(places)], np.int64).reshape(-1, 2),
            item_names=[names[place] for place in places],
            rater_names=raters,
            groups=[groups.get(name, {}) for name in raters],
            paired=kind_of(self.kind).paired,
        )

    def _sides(self, places: NDArray[np.int64]) -> list[Any]:
        """Both answers of each item, one after the other."""
        return [side for place in places for side in self.keys.sides[place]]

    def _features(self, places: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Differences of the two answers, where the kind has two."""
        kind = kind_of(self.kind)
        if not (kind.sides and kind.written):
            return {}
        known = {"length": self.keys.length, "lists": self.keys.lists}
        return {name: np.array(values)[places] for name, values in known.items()}


_PLAIN = (
    Answers.id,
    Answers.item_id,
    Answers.person_id,
    Answers.score,
    type_coerce(Answers.order, Text).label("order"),
    Answers.seconds,
    Answers.at,
    Answers.rubric_version,
    Answers.repeat_of,
    Answers.stage,
    Answers.undone,
)
"""Columns of a kind with one score; no JSON is read."""
_FIRST = {"[0,1]": 1.0, "[1,0]": -1.0}


def _scored(row: AnyRow) -> tuple[PartValue]:
    """The one value of an answer, from its score."""
    said = UNSURE if row.score is None else row.score
    return (PartValue("", said, _FIRST.get(row.order, 0.0)),)


def _compact(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels as 0 … n−1, and which label each of these is."""
    kept, place = np.unique(labels, return_inverse=True)
    return place.astype(np.int64), kept.astype(np.int64)
