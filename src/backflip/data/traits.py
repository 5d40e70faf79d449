"""Traits of answers that people may prefer, or seem to, for no reason: length, lists, words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from backflip.data.records import Comparison, Messages

__all__ = ["LENGTH", "LISTS", "trait_differences"]

LENGTH, LISTS = "length", "lists"
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)


def trait_differences(records: Sequence[Comparison], traits: Sequence[str]) -> NDArray[np.float64]:
    """[P, F] how much more of each trait the preferred answer has, averaged over a row's pairs.

    Args:
        records: of comparisons, ties among them.
        traits: ``length`` makes two columns, which is longer and by how much (in deviations,
            squashed by tanh); ``lists`` one, whether it has items of a list; any other text one,
            whether it has these words, in whichever case.

    """
    columns: list[NDArray[np.float64]] = []
    for trait in traits:
        by = np.array([_difference(record, _measure(trait)) for record in records])
        if trait == LENGTH:
            columns.append(np.array([_difference(r, _measure(trait), np.sign) for r in records]))
            by = np.tanh(by / (by.std() or 1.0))
        columns.append(by)
    return np.stack(columns, 1)


def _difference(
    record: Comparison,
    measure: Callable[[str], float],
    shape: Callable[[float], float] = float,
) -> float:
    """Mean over the decided pairs of a row of ``shape`` (what the better has more)."""
    found = [(rank, measure(_said(a))) for rank, a in zip(record.rank, record.answers, strict=True)]
    more = [shape(x - y) for a, x in found for b, y in found if a < b]
    return float(np.mean(more)) if more else 0.0


def _measure(trait: str) -> Callable[[str], float]:
    if trait == LENGTH:
        return len
    if trait == LISTS:
        return lambda text: float(bool(_ITEM.search(text)))
    words = trait.casefold()
    return lambda text: float(words in text.casefold())


def _said(answer: Messages) -> str:
    return "\n".join(message.content for message in answer if message.role == "assistant")
