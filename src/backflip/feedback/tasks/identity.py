"""Identity of items, and their features before anybody has judged them.

The order of the answers and who wrote them make no difference: a pair asked the other way round is
the same pair.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from backflip.feedback.kinds.fields import Payload, Turn
from backflip.feedback.kinds.registry import kind_of

_LIST_MARK = re.compile(r"^[ \t]{0,8}(?:[-*+•]|\d{1,3}[.)])[ \t]+", re.MULTILINE)


@dataclass(frozen=True)
class Identity:
    """Features that tell whether two items are the same."""

    digest: str
    """128 bits in hexadecimal: the same for items that ask the same."""
    twins: bool
    """Whether two of its answers are the same: nothing to compare."""
    left: int | None
    """A number of 63 bits for the prompt with the first answer; items with that answer share it."""
    right: int | None
    length: int | None
    """Characters of the first answer minus the second's."""
    lists: int | None
    """List marks of the first answer minus the second's."""


@dataclass(frozen=True)
class Side:
    """One of the answers that are compared."""

    number: int
    """Of the prompt with this answer, 63 bits."""
    length: int
    """Characters."""
    lists: int
    """List marks."""


def sides_of(payload: Payload) -> list[Side]:
    """The sides of an item; clips have neither length nor lists: 0."""
    return _known(payload, _sides(payload), _hash(_prompt(payload)))


def _known(payload: Payload, texts: list[str], prompt: bytes) -> list[Side]:
    written = kind_of(payload.kind).written
    return [
        Side(
            number=int.from_bytes(_hash([text], prompt)[:8]) >> 1,
            length=len(text) if written else 0,
            lists=len(_LIST_MARK.findall(text)) if written else 0,
        )
        for text in texts
    ]


def identify(payload: Payload) -> Identity:
    """Digest, twins, and the features that the bias gauges look at."""
    texts, prompt = _sides(payload), _hash(_prompt(payload))
    twins = len(set(texts)) < len(texts)
    content = sorted(texts) or [json.dumps(_without_source(payload.model_dump(mode="json")))]
    digest = _hash([payload.kind, *content], prompt).hex()[:32]
    if len(texts) != 2:
        return Identity(digest, twins, None, None, None, None)
    a, b = _known(payload, texts, prompt)
    length, lists = a.length - b.length, a.lists - b.lists
    if not kind_of(payload.kind).written:
        return Identity(digest, twins, a.number, b.number, None, None)
    return Identity(digest, twins, a.number, b.number, length, lists)


def _hash(texts: Iterable[str], before: bytes = b"") -> bytes:
    """Of several texts, each with its length in front, so that no two lists look alike."""
    made = hashlib.sha256(before)
    for text in texts:
        letters = text.encode()
        made.update(b"%d:" % len(letters))
        made.update(letters)
    return made.digest()


def _sides(payload: Payload) -> list[str]:
    kind = kind_of(payload.kind)
    return [kind.side_text(side) for side in kind.sides_of(payload)]


def _prompt(payload: Payload) -> list[str]:
    turns: tuple[Turn, ...] = getattr(payload, "prompt", ())
    return [text for turn in turns for text in (turn.role, _plain(turn.content))]


def _plain(text: str) -> str:
    """White space at the ends and the kind of line ends make no other text."""
    return text.replace("\r\n", "\n").strip()


def _without_source(part: Any) -> Any:
    if isinstance(part, dict):
        return {k: _without_source(v) for k, v in part.items() if k not in ("source", "prompt")}
    if isinstance(part, list):
        return [_without_source(value) for value in part]
    return _plain(part) if isinstance(part, str) else part
