"""Numbers of a suite, each a function of its rows, with intervals and paired changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from backflip.functional.statistics import (
    Interval,
    jackknife_interval,
    mean_interval,
    paired_difference,
    share_interval,
)

__all__ = ["Measure", "Rows", "Statistic", "group_of", "measured"]

Row: TypeAlias = Mapping[str, Any]
"""One question and what the model did: ``id``, ``group`` where several hang together, columns."""
Rows: TypeAlias = Sequence[Row]
Kind: TypeAlias = Literal["share", "points", "number"]
"""A share of 0 to 1; a difference of shares, −1 to 1; any other number."""

ASKED = ("prompt", "question", "context", "text")
"""Columns of rows with what was asked."""


@dataclass(frozen=True)
class Statistic:
    """A number that follows from rows: the mean of a column, or a function of all of them."""

    name: str
    label: str
    """In words, for people."""
    column: str = ""
    """Column whose mean it is, over rows in which that is not None."""
    where: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values that other columns must have for a row to count."""
    kind: Kind = "share"
    of: Callable[[Rows], float] | None = None
    """The number, in place of a mean; its interval is that of the jackknife over groups."""
    interval: Callable[[Rows], Interval] | None = None
    """The number with an interval of its own kind."""
    paired: bool = True
    """Whether changes are told pair by pair, on the questions that two models share."""

    def rows(self, rows: Rows) -> list[Row]:
        """Those that count."""
        chosen = (r for r in rows if all(r.get(name) == v for name, v in self.where.items()))
        return [row for row in chosen if not self.column or row.get(self.column) is not None]

    def __call__(self, rows: Rows) -> Interval:
        """The number with its 95 % interval, clustered by group; NaN where no row counts."""
        rows = self.rows(rows)
        if self.interval is not None:
            return self.interval(rows)
        groups = [group_of(row) for row in rows]
        if self.of is None and self.kind == "share":
            return share_interval([float(row[self.column]) for row in rows], groups)
        if self.of is None:
            values = [float(row[self.column]) for row in rows]
            found = mean_interval(values, groups, within=self.within)
        else:
            left = [self._value(some) for some in _without(rows)]
            found = jackknife_interval(self._value(rows), left, within=self.within)
        if found.low == found.high and not found.enough:  # few that are alike are not certain
            return replace(found, low=self.within[0], high=self.within[1])
        return found

    def change(self, before: Rows, after: Rows) -> Interval:
        """After less before, on the rows that both have, by ``id``; their difficulty cancels."""
        before, after = _common(self.rows(before), self.rows(after))
        groups = [group_of(row) for row in after]
        if self.of is None:
            was, now = ([float(row[self.column]) for row in rows] for rows in (before, after))
            return paired_difference(now, was, groups)
        pairs = list(zip(before, after, strict=True))
        left = [
            self._value([b for _, b in some]) - self._value([a for a, _ in some])
            for some in _without(pairs, key=lambda pair: group_of(pair[1]))
        ]
        return jackknife_interval(self._value(after) - self._value(before), left)

    @property
    def within(self) -> tuple[float, float]:
        """The bounds that the number cannot leave."""
        bounds = {"share": (0.0, 1.0), "points": (-1.0, 1.0)}
        return bounds.get(self.kind, (-math.inf, math.inf))

    def _value(self, rows: Rows) -> float:
        assert self.of is not None
        return self.of(rows) if rows else math.nan


@dataclass(frozen=True)
class Measure:
    """A statistic of one model; beside it that of another, and the paired change between them."""

    statistic: Statistic
    value: Interval
    was: Interval | None = None
    change: Interval | None = None
    common: int = 0
    """Rows on which the change was measured."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite."""
        found: dict[str, Any] = {"label": self.statistic.label, "kind": self.statistic.kind}
        found |= self.value.named("value")
        if self.was is not None:
            found |= self.was.named("before")
        if self.change is not None:
            found |= self.change.named("change") | {"common": self.common}
        return found


def measured(statistic: Statistic, rows: Rows, before: Rows | None = None) -> Measure:
    """A statistic of some rows, and its change against those of another model."""
    value = statistic(rows)
    if before is None:
        return Measure(statistic, value)
    common = len(_common(statistic.rows(before), statistic.rows(rows))[0])
    change = statistic.change(before, rows) if statistic.paired and common else None
    return Measure(statistic, value, statistic(before), change, common)


def group_of(row: Row) -> str:
    """The independent unit that a row belongs to."""
    return str(row.get("group", row["id"]))


def _common(one: Rows, other: Rows) -> tuple[list[Row], list[Row]]:
    """Rows with the same ``id`` that ask the same: data may have changed in between."""
    known = {str(row["id"]): row for row in one}
    both = [(known[key], row) for row in other if (key := str(row["id"])) in known]
    both = [(a, b) for a, b in both if all(a.get(name) == b.get(name) for name in ASKED)]
    return [a for a, _ in both], [b for _, b in both]


def _without(rows: Sequence[Any], key: Callable[[Any], str] = group_of) -> list[list[Any]]:
    """The rows with each group left out in turn."""
    groups = [key(row) for row in rows]
    return [
        [row for row, group in zip(rows, groups, strict=True) if group != left]
        for left in dict.fromkeys(groups)
    ]
