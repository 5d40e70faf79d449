"""Item order and displayed order: sides are shuffled for each rater, and the order is recorded.

``order[i]`` is the place in the item of what is displayed at place i. Everything stored is in the
item's own order; only the page sees the other.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from backflip.feedback.kinds.fields import Payload
from backflip.feedback.kinds.registry import kind_of

Order: TypeAlias = tuple[int, ...]


def seed_of(*parts: object) -> int:
    """A seed of 63 bits that the same parts always give, and that looks like chance."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def order_of(payload: Payload, seed: int) -> Order:
    """A shuffled order of the item's answers or clips; empty where there is nothing to shuffle."""
    places = list(own_order(payload))
    random.Random(seed).shuffle(places)
    return tuple(places)


def own_order(payload: Payload) -> Order:
    """The order in which the item is kept; empty where there is nothing to shuffle."""
    return tuple(range(len(kind_of(payload.kind).sides_of(payload))))


def as_displayed(payload: Payload, order: Sequence[int]) -> dict[str, Any]:
    """The payload as a rater sees it: in displayed order, and without a word on its sources."""
    kind = kind_of(payload.kind)
    shown = _anonymous(payload.model_dump(mode="json"))
    if kind.sides:
        shown[kind.sides] = [shown[kind.sides][place] for place in order]
    return kind.shown(shown)


def _anonymous(part: Any) -> Any:
    """Without any field that says who wrote it."""
    if isinstance(part, dict):
        return {name: _anonymous(value) for name, value in part.items() if name != "source"}
    return [_anonymous(value) for value in part] if isinstance(part, list) else part


def in_item_order(kind: str, value: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """An answer as given on the page, turned back into the item's own order."""
    return kind_of(kind).in_item_order(value, order)


def in_displayed_order(kind: str, value: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """A stored answer as the rater who saw ``order`` would have given it."""
    return kind_of(kind).in_displayed_order(value, order)
