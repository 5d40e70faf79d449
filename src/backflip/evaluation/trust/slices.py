"""Accuracy by what records say of their pairs: strength, confidence, rater, group, domain."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backflip.data.subjects import listed, raters_of
from backflip.evaluation.reward_model import Slice
from backflip.evaluation.trust.pairs import JudgedPairs, difference_interval
from backflip.functional.statistics import Interval, share_interval

__all__ = ["Column", "Worst", "by_columns"]

MOST = 12
"""Values of a column that are shown, those with most pairs."""
DISTINCT = 8
"""Different numbers in a column above which they are shown by quarters."""
FEWEST_RATERS = 5
"""Raters below which nothing is said of a group: three people are not a group's opinion."""


@dataclass(frozen=True)
class Worst:
    """The value whose pairs are ordered worst, beyond what picking it by its accuracy explains."""

    name: str
    behind: Interval
    """Accuracy on it less that on all other pairs; its level allows for all values compared."""


@dataclass(frozen=True)
class Column:
    """Accuracy by the values of one column."""

    name: str
    """strength, confidence, rater, group or domain."""
    source: str
    """The column's own name."""
    slices: tuple[Slice, ...]
    refused: tuple[str, ...]
    """Values without a number, each with the reason."""
    worst: Worst | None
    """None where no interval holds it."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        found: dict[str, Any] = {
            "column": self.source,
            "slices": {
                s.name: {"pairs": s.pairs, **s.accuracy.named("accuracy")} for s in self.slices
            },
            "refused": list(self.refused),
        }
        if self.worst is not None:
            behind = {"name": self.worst.name, **self.worst.behind.named("behind")}
            found["worst"] = behind | {"level": self.worst.behind.level}
        return found


def by_columns(pairs: JudgedPairs, columns: Mapping[str, str]) -> tuple[Column, ...]:
    """Accuracy by every column in which pairs differ, and by the margin that labels call for."""
    found: list[Column] = []
    if "strength" not in columns and len({r.margin for r in pairs.records}) > 1:
        values = [[record.margin] for record in pairs.records]
        found += _column(pairs, "strength", "margin", values, [])
    for subject, source in columns.items():
        values = [listed(record.info.get(source)) for record in pairs.records]
        raters = [raters_of(record, columns) for record in pairs.records]
        found += _column(pairs, subject, source, values, raters if subject == "group" else [])
    return tuple(found)


def _column(
    pairs: JudgedPairs,
    subject: str,
    source: str,
    values: list[list[Any]],
    raters: list[list[str]],
) -> list[Column]:
    """The column with its slices; nothing where all pairs say the same, or each another thing."""
    names = _named(values)
    counts = Counter(name for row in names for name in row)
    if len(counts) < 2 or (len(counts) > MOST and max(counts.values()) < 2):
        return []
    common = {name for name, _ in counts.most_common(MOST)}
    shown = [name for name in dict.fromkeys(_ordered(counts)) if name in common]
    masks = {name: np.array([name in row for row in names]) for name in shown}
    slices, refused = list[Slice](), list[str]()
    for name, rows in masks.items():
        people = {one for row, has in zip(raters, rows, strict=False) if has for one in row}
        if raters and people and len(people) < FEWEST_RATERS:
            many = f"{len(people)} rater{'s' if len(people) > 1 else ''}"
            refused.append(f"{name}: {many}, too few to speak for a group")
            continue
        slices.append(Slice(name, int(rows.sum()), _accuracy(pairs, rows, raters)))
    if more := len(counts) - len(shown):
        refused.append(f"{more} more values, with fewer pairs each")
    if silent := sum(not row for row in names):
        refused.append(f"{silent} pairs without a value")
    says = np.array([bool(row) for row in names])
    worst = _worst(pairs, slices, masks, says) if subject != "strength" else None
    return [Column(subject, source, tuple(slices), tuple(refused), worst)]


def _accuracy(pairs: JudgedPairs, rows: NDArray[np.bool_], raters: list[list[str]]) -> Interval:
    """By prompt, or by rater where each pair has one and that tells less."""
    by_prompt = share_interval(pairs.right[rows], pairs.prompt[rows])
    said = [row for row, has in zip(raters, rows, strict=False) if has]
    if not said or any(len(row) != 1 for row in said):
        return by_prompt
    by_rater = share_interval(pairs.right[rows], [row[0] for row in said])
    ends = (by_prompt, by_rater)
    return max(ends, key=lambda interval: interval.high - interval.low)


def _worst(
    pairs: JudgedPairs,
    slices: Sequence[Slice],
    masks: Mapping[str, NDArray[np.bool_]],
    says: NDArray[np.bool_],
) -> Worst | None:
    """The lowest accuracy, where it lies below that of the other pairs at Bonferroni's level."""
    known = [one for one in slices if one.accuracy.enough]
    if len(slices) < 2 or not known:
        return None
    lowest = min(known, key=lambda one: one.accuracy.estimate)
    rows, level = masks[lowest.name][says], 1 - 0.05 / len(known)
    behind = difference_interval(pairs.right[says], rows, pairs.prompt[says], level=level)
    return Worst(lowest.name, behind) if behind.high < 0 else None


def _named(values: list[list[Any]]) -> list[list[str]]:
    """Values as words; numbers of which there are many as quarters."""
    numbers = [one for row in values for one in row if _is_number(one)]
    everything = sum(map(len, values))
    if len(numbers) < everything or len(set(numbers)) <= DISTINCT:
        return [[f"{one:g}" if _is_number(one) else str(one) for one in row] for row in values]
    ends = np.quantile(numbers, [0.0, 0.25, 0.5, 0.75, 1.0])
    inner = ends[1:-1]
    words = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(ends)]
    return [[words[int(np.searchsorted(inner, float(one)))] for one in row] for row in values]


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value)


def _ordered(counts: Counter[str]) -> list[str]:
    """Numbers and ranges of numbers by size, words by how many pairs they have."""

    def place(name: str) -> tuple[int, float, str]:
        try:
            return 0, float(name.partition(" to ")[0]), name
        except ValueError:
            return 1, -counts[name], name

    return sorted(counts, key=place)
