"""Elements of Label Studio's pages and results that several kinds use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

PROMPT = (
    '<Paragraphs name="prompt" value="$prompt" layout="dialogue" nameKey="role" textKey="content"/>'
)
ANSWER = '<Text name="answer1" value="$answer1"/>'


def rating(name: str, to: str, most: int) -> str:
    """Stars for a text."""
    return f'<Rating name={quoteattr(name)} toName="{to}" maxRating="{most}"/>'


def choices(name: str, to: str, values: Sequence[str]) -> str:
    """One of several words for a text."""
    inside = "".join(f'<Choice value="{value}"/>' for value in values)
    return f'<Choices name="{name}" toName="{to}">{inside}</Choices>'


def result(name: str, to: str, type_: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A result of an annotation."""
    return {"from_name": name, "to_name": to, "type": type_, "origin": "manual", "value": value}


def points(low: int, high: int) -> list[int]:
    """The points of a scale."""
    return list(range(low, high + 1))
