"""Item order and displayed order: sides are shuffled for each rater, and the order is recorded.

``order[i]`` is the place in the item of what is displayed at place i. Everything stored is in the
item's own order; only the page sees the other.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from backflip.errors import UserError
from backflip.feedback.kinds.settings import SIDED
from backflip.feedback.kinds.tasks import Clips, Compare, Payload, Rank, Talk
from backflip.text import counted

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
    return tuple(range(_sides(payload)))


def _sides(payload: Payload) -> int:
    match payload:
        case Compare() | Rank():
            return len(payload.answers)
        case Clips():
            return 2
        case _:
            return 0


def as_displayed(payload: Payload, order: Sequence[int]) -> dict[str, Any]:
    """The payload as a rater sees it: in displayed order, and without a word on its sources."""
    shown = payload.model_dump(mode="json", exclude=_HIDDEN)
    for name in ("answers", "clips"):
        if name in shown:
            shown[name] = [_anonymous(shown[name][place]) for place in order]
    for name in ("answer", "draft"):
        if shown.get(name):
            shown[name] = _anonymous(shown[name])
    if isinstance(payload, Talk):
        shown["policies"] = len(payload.policies)
    return shown


_HIDDEN = {"source"}


def _anonymous(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in _HIDDEN}


_OTHER = {"a": "b", "b": "a"}


def in_item_order(kind: str, value: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """An answer as given on the page, turned back into the item's own order."""
    if kind not in SIDED:
        return dict(value)
    if kind == "rank":
        ranks = value.get("ranks")
        if not isinstance(ranks, list | tuple) or len(ranks) != len(order):
            seen = counted(len(ranks), "rank") if isinstance(ranks, list | tuple) else "no ranks"
            raise UserError(
                f"answer: {seen} for {counted(len(order), 'answer')}; give one for each."
            )
        back = [None] * len(order)
        for rank, place in zip(ranks, order, strict=True):
            back[place] = rank
        return {**value, "ranks": back}
    return _turned(value, order)


def in_displayed_order(kind: str, value: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """A stored answer as the rater who saw ``order`` would have given it."""
    if kind not in SIDED:
        return dict(value)
    if kind == "rank":
        return {**value, "ranks": [value["ranks"][place] for place in order]}
    return _turned(value, order)


def _turned(value: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    choice = value.get("choice")
    if list(order) == [1, 0] and isinstance(choice, str):
        return {**value, "choice": _OTHER.get(choice, choice)}
    return dict(value)


def first_shown(order: Sequence[int]) -> int:
    """1 where the item's first answer was displayed first, −1 where second, 0: no two sides."""
    return 0 if len(order) != 2 else 1 if order[0] == 0 else -1
