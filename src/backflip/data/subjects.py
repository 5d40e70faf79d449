"""Subjects of a comparison beside its answers: how strong, how sure, whose, of whom, about what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from backflip.data.records import Comparison

__all__ = ["COLUMNS", "listed", "parted", "raters_of", "used_columns"]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "strength": ("strength",),
    "confidence": ("confidence", "certainty", "annotator_confidence"),
    "rater": tuple(
        one + end
        for one in ("rater", "annotator", "worker", "labeler", "labeller")
        for end in ("", "_id", "s")
    ),
    "group": ("group", "rater_group", "annotator_group", "worker_group", "demographic"),
    "domain": ("domain", "category", "subset", "topic", "task", "language"),
}
"""Subjects by which accuracy is told apart, and the columns in which each is looked for."""


def parted(columns: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Columns that were named: those of subjects, and all others."""
    subjects = {name: column for name, column in columns.items() if name in COLUMNS}
    return subjects, {name: c for name, c in columns.items() if name not in COLUMNS}


def used_columns(records: Sequence[Comparison], named: Mapping[str, str]) -> dict[str, str]:
    """The column of each subject, as ``named`` or by its usual names; those that records have."""
    held = Counter(name for record in records for name in record.info)
    plain = {name.strip().lower().replace(" ", "_"): name for name in held}
    found: dict[str, str] = {}
    for subject, names in COLUMNS.items():
        name = named.get(subject) or next((plain[n] for n in names if n in plain), None)
        if name is not None and name in held:
            found[subject] = name
    return found


def raters_of(record: Comparison, columns: Mapping[str, str]) -> list[str]:
    """Names of those who judged a pair, where the record has them."""
    return [str(one) for one in listed(record.info.get(columns.get("rater", "")))]


def listed(value: Any) -> list[Any]:
    """What a cell says: nothing, one value, or several."""
    if value is None or isinstance(value, Mapping):
        return []
    several = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else [value]
    return [one for one in several if isinstance(one, str | int | float) and one != ""]
