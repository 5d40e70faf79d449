"""Argilla's datasets: a column for each field, and several for each question.

    2.x  quality.responses, quality.responses.users, quality.responses.status: lists side by side;
         quality.suggestion, quality.suggestion.score, quality.suggestion.agent
    1.x  quality: a list of {user_id, value, status}; quality-suggestion

Lists of objects may have become objects of lists, as Hugging Face's sequences do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backflip.data.records import BadRecordError

RESPONSES, SUGGESTION, FORMER = ".responses", ".suggestion", "-suggestion"
OWN = ("id", "status", "_server_id", "external_id", "metadata", "vectors", "score")
"""Columns of the record itself."""
PART = {"user_id", "value", "status"}


def questions(row: Mapping[str, Any]) -> list[str]:
    """Names of the questions that a row has columns of; none where it is no such row."""
    newer = [
        name.removesuffix(RESPONSES)
        for name in row
        if name.endswith(RESPONSES) and _told(row, name)
    ]
    lone = [
        name.removesuffix(SUGGESTION)
        for name in row
        if name.endswith(SUGGESTION) and (f"{name}.score" in row or f"{name}.agent" in row)
    ]
    former = [name for name in row if f"{name}{FORMER}" in row and (_listed(row[name]) is not None)]
    return list(dict.fromkeys([*newer, *lone, *former]))


def _told(row: Mapping[str, Any], name: str) -> bool:
    """Whether a column of responses is Argilla's: its own columns stand beside it, or it lists."""
    beside = f"{name}.users" in row or f"{name}.status" in row
    return beside or isinstance(row[name], list)


def fields(row: Mapping[str, Any], asked: Sequence[str]) -> dict[str, Any]:
    """Texts that were shown: all columns that are neither a question's nor the record's own."""
    marks = (RESPONSES, SUGGESTION, FORMER)
    ours = tuple(f"{question}{mark}" for question in asked for mark in marks)
    return {
        name: value
        for name, value in row.items()
        if name not in (*OWN, *asked) and not name.startswith(ours)
    }


def responses(row: Mapping[str, Any], asked: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Responses by question, each {value, user_id, status}."""
    return {name: _beside(row, name) or _listed(row.get(name)) or [] for name in asked}


def _beside(row: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    column = f"{name}{RESPONSES}"
    values, users, status = (
        _column(row, part) for part in (column, f"{column}.users", f"{column}.status")
    )
    return [
        {
            "value": value,
            "user_id": users[place] if place < len(users) else None,
            "status": status[place] if place < len(status) else None,
        }
        for place, value in enumerate(values)
    ]


def _column(row: Mapping[str, Any], name: str) -> list[Any]:
    """The values of a column of responses. Raises BadRecordError for what is no list."""
    value = row.get(name)
    if isinstance(value, Mapping):  # a sequence of objects
        return _turned(value)
    if value is None or isinstance(value, list):
        return value or []
    raise BadRecordError(
        f"column {name!r} holds no list",
        f"seen: {str(value)[:40]!r}; a table keeps lists only as JSON: save JSON lines or Parquet",
    )


def _turned(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An object of lists as a list of objects. Raises BadRecordError where they do not match."""
    lists = [value if isinstance(value, list) else [value] for value in columns.values()]
    if len({len(one) for one in lists}) > 1:
        raise BadRecordError("lists of one response that are not equally long")
    return [dict(zip(columns, one, strict=True)) for one in zip(*lists, strict=True)]


def _listed(value: Any) -> list[dict[str, Any]] | None:
    """Version 1's list of responses; none for what is no such list."""
    if isinstance(value, Mapping) and set(value) >= {"user_id", "value"}:
        return _turned(value)
    if not isinstance(value, list):
        return None
    fits = all(isinstance(one, Mapping) and set(one) <= PART for one in value)
    return [dict(one) for one in value] if fits else None


def suggested(row: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
    """Questions for which a model has suggested an answer."""
    marks = (SUGGESTION, FORMER)
    return [name for name in asked if any(row.get(f"{name}{mark}") is not None for mark in marks)]
