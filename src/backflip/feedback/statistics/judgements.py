"""Judgements of raters as columns of numbers: the one thing that every statistic here takes.

N judgements of I items by R raters. Values stand in the item's own order, never as displayed: the
sides were shuffled for each rater, so "left" means nothing here, and what "a" means is the same
for all raters of an item. The displayed order is kept beside them, for the position bias alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Judgements:
    """N judgements of I items by R raters. Plain numpy; make one with ``Judgements.of``."""

    item: Ints
    """[N] 0 … I−1."""
    rater: Ints
    """[N] 0 … R−1."""
    value: Floats
    """[N] Compare: −1 (b much better) … 1 (a much better), 0 a tie. Thumbs: ±1. Ratings: as they
    are. Not a number: looked at, but nothing said (cannot tell, both bad)."""
    first: Floats
    """[N] 1 where the item's first answer was displayed first, −1 where second, 0: no sides."""
    seconds: Floats
    """[N] From display to answer; not a number where nobody measured it."""
    at: Floats
    """[N] When it arrived, Unix seconds."""
    rubric: Ints
    """[N] Version of the rubric that the rater saw."""
    repeat: Flags
    """[N] Whether the rater had judged the item before, and was asked again."""
    gold: Floats
    """[I] What seniors agreed on, on the scale of ``value``; not a number where unknown."""
    features: Mapping[str, Floats]
    """Each [I]: "length" is characters of answer a minus b, "lists" its list marks minus b's."""
    answers: Ints = field(repr=False)
    """[I, 2] Which two answers an item compares, 0 … A−1: items of one prompt may share them."""
    item_names: Sequence[str] = field(repr=False)
    rater_names: Sequence[str] = field(repr=False)
    groups: Sequence[Mapping[str, str]] = field(repr=False)
    """One for each rater: {"region": "north", "expertise": "nurse"}; empty where unknown."""
    paired: bool
    """Whether a value's sign says which of two answers is better. Ratings and thumbs: false."""

    @classmethod
    def of(cls, item: ArrayLike, rater: ArrayLike, value: ArrayLike, **columns: Any) -> Judgements:
        """From the three columns that are always there, and those of the others that are known.

        ``answers`` may be any whole numbers, and are numbered anew from 0; negative ones are of no
        known answer. Raises ValueError where columns disagree in length or indices point outside.
        """
        said = np.asarray(value, dtype=np.float64)
        rows = len(said)
        items, raters = np.asarray(item, np.int64), np.asarray(rater, np.int64)
        names = columns.get("item_names")
        known = [columns.get("gold"), columns.get("answers")]
        wide = [names, *known, *dict(columns.get("features", {})).values()]
        count = max([int(items.max(initial=-1)) + 1, *(len(x) for x in wide if x is not None)])
        people = columns.get("rater_names")
        many = len(people) if people is not None else int(raters.max(initial=-1)) + 1
        made = cls(
            item=items,
            rater=raters,
            value=said,
            first=_column(columns, "first", rows, 0.0),
            seconds=_column(columns, "seconds", rows, np.nan),
            at=_column(columns, "at", rows, 0.0),
            rubric=np.asarray(columns.pop("rubric", np.ones(rows)), np.int64),
            repeat=np.asarray(columns.pop("repeat", np.zeros(rows)), np.bool_),
            gold=_column(columns, "gold", count, np.nan),
            features={k: np.asarray(v, float) for k, v in columns.pop("features", {}).items()},
            answers=_numbered(columns.pop("answers", None), count),
            item_names=columns.pop("item_names", None) or [str(i) for i in range(count)],
            rater_names=columns.pop("rater_names", None) or [f"r-{k}" for k in range(many)],
            groups=columns.pop("groups", None) or [{} for _ in range(many)],
            paired=bool(columns.pop("paired", True)),
        )
        if columns:
            raise ValueError(f"Judgements have no column {sorted(columns)[0]!r}.")
        made._check()
        return made

    def _check(self) -> None:
        rows = [self.item, self.rater, self.first, self.seconds, self.at, self.rubric, self.repeat]
        if any(len(x) != len(self.value) for x in rows):
            raise ValueError("Every column of Judgements needs one entry for each judgement.")
        wide = [self.gold, self.answers, self.item_names, *self.features.values()]
        if any(len(x) != self.items for x in wide) or len(self.groups) != self.raters:
            raise ValueError(
                f"Judgements of {self.items} items by {self.raters} raters need gold, features, "
                "answers and names of that many items, and groups of that many raters."
            )
        outside = len(self) and not (
            0 <= self.item.min() <= self.item.max() < self.items
            and 0 <= self.rater.min() <= self.rater.max() < self.raters
        )
        if outside:
            raise ValueError("A judgement names an item or a rater that is not there.")

    def __len__(self) -> int:
        """Judgements, N."""
        return len(self.value)

    @property
    def items(self) -> int:
        """Items, I, judged or not."""
        return len(self.item_names)

    @property
    def raters(self) -> int:
        """Raters, R, whether they have answered or not."""
        return len(self.rater_names)

    def where(self, rows: NDArray[Any] | slice) -> Judgements:
        """Some of the judgements (a mask or indices), of the same items by the same raters."""
        return replace(
            self,
            item=self.item[rows],
            rater=self.rater[rows],
            value=self.value[rows],
            first=self.first[rows],
            seconds=self.seconds[rows],
            at=self.at[rows],
            rubric=self.rubric[rows],
            repeat=self.repeat[rows],
        )

    def said(self) -> Judgements:
        """First answers that say something: no repeats, no "cannot tell". Agreement takes these."""
        return self.where(~self.repeat & ~np.isnan(self.value))

    def sides(self) -> Judgements:
        """Which answer was better and no more: strengths become −1, 0 or 1. Ratings stay."""
        return replace(self, value=np.sign(self.value)) if self.paired else self

    def classes(self) -> tuple[Floats, Ints]:
        """Values in rising order [C], and for each judgement which of them it is [N], −1: none.

        Pairs have always three: −1, 0, 1 (b, tie, a). Ratings have those that anybody gave.
        """
        if self.paired:
            code = np.where(np.isnan(self.value), -1, np.nan_to_num(np.sign(self.value)) + 1)
            return np.array([-1.0, 0.0, 1.0]), code.astype(np.int64)
        known = ~np.isnan(self.value)
        values = np.unique(np.concatenate([self.value[known], self.gold[~np.isnan(self.gold)]]))
        code = np.searchsorted(values, np.nan_to_num(self.value))
        return values, np.where(known, code, -1).astype(np.int64)


def _column(columns: dict[str, Any], name: str, rows: int, otherwise: float) -> Floats:
    given = columns.pop(name, None)
    return np.full(rows, otherwise) if given is None else np.asarray(given, dtype=np.float64)


def _numbered(given: ArrayLike | None, items: int) -> Ints:
    """[I, 2] Names of answers → 0 … A−1; what is not known is unlike everything else."""
    own = -1 - np.arange(2 * items, dtype=np.int64).reshape(-1, 2)
    known = own if given is None else np.asarray(given, np.int64)
    if known.shape != own.shape:
        return known
    _, number = np.unique(np.where(known < 0, own, known), return_inverse=True)
    return number.reshape(-1, 2).astype(np.int64)


@dataclass(frozen=True)
class Pairs:
    """Two judgements of one item by two raters, each such two once."""

    left: Ints
    """[P] Which judgement."""
    right: Ints
    """[P] The other one."""


def pairs(item: Ints, rater: Ints) -> Pairs:
    """Every two judgements of the same item by different raters, given each judgement's two.

    Takes Σ m(m−1)/2 rows of memory for items with m judgements each.
    """
    order = np.argsort(item, kind="stable")
    item = item[order]
    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    start = np.arange(len(item))
    lag = 1
    while len(start := start[start + lag < len(item)]):
        start = start[item[start] == item[start + lag]]
        lefts.append(order[start])
        rights.append(order[start + lag])
        lag += 1
    left, right = np.concatenate(lefts), np.concatenate(rights)
    other = rater[left] != rater[right]
    return Pairs(left[other], right[other])
