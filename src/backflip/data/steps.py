"""Steps of an answer: where its lines or sentences begin, in tokens."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

__all__ = ["ENDS", "step_starts"]

ENDS: Mapping[str, re.Pattern[str]] = {
    "lines": re.compile(r"\n"),
    "sentences": re.compile(r"""[.!?…]["'”’»)\]]*(?=\s)|[。！？]|\n"""),
}
"""Text that ends a line or a sentence: a full stop counts where a blank follows, so that ``3.5`` is
one sentence, and ``e.g. this`` two."""
WRITTEN = re.compile(r"\S")


def step_starts(
    tokens: Sequence[int], decode: Callable[[list[int]], str], ends: re.Pattern[str]
) -> list[int]:
    """Places of the tokens that begin a step: the first, and those that write on after an end.

    Blank lines belong to the step before them. A token that holds an end and what follows it begins
    the next step.
    """
    if not tokens:
        return []
    pieces = _pieces(tokens, decode)
    text, starts = "".join(pieces), [0, *accumulate(map(len, pieces))][:-1]
    found = {0}
    for end in ends.finditer(text):
        if following := WRITTEN.search(text, end.end()):
            found.add(bisect_right(starts, following.start()) - 1)
    return sorted(found)


def _pieces(tokens: Sequence[int], decode: Callable[[list[int]], str]) -> list[str]:
    """The text that each token adds behind the one before it; decoding drops blanks at a start."""
    known: dict[tuple[int, ...], str] = {}

    def text(*some: int) -> str:
        if some not in known:
            known[some] = decode(list(some))
        return known[some]

    pieces = [text(tokens[0])]
    for before, token in pairwise(tokens):
        alone, both = text(before), text(before, token)
        pieces.append(both[len(alone) :] if both.startswith(alone) else text(token))
    return pieces
