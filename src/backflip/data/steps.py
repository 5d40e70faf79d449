"""Steps of an answer: where they begin and where they end, in text and in tokens."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from backflip.data.chat import ChatTemplate
from backflip.errors import UserError

__all__ = ["ENDS", "SEPARATOR", "StepFinder", "step_ends", "step_starts"]

SEPARATOR = "\n"
"""Text between two steps of a solution, unless another is chosen."""

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


def step_ends(pieces: Sequence[str], separator: str, *, finished: bool = True) -> list[int]:
    """The pieces in which steps end, in order; pieces are tokens, or single characters.

    ``finished``: whether the last piece ends a step, although no separator follows it. Blank text
    between two separators is no step.
    """
    ends, said, kept = list[int](), False, ""
    for place, piece in enumerate(pieces):
        kept += piece
        while (at := kept.find(separator)) >= 0:
            said = said or bool(kept[:at].strip())
            kept = kept[at + len(separator) :]
            if said:
                ends.append(place)
            said = False
        if len(kept) >= len(separator):  # what cannot become a separator any more
            cut = len(kept) - len(separator) + 1
            said, kept = said or bool(kept[:cut].strip()), kept[cut:]
    if finished and pieces and (said or kept.strip()):
        ends.append(len(pieces) - 1)
    return ends


class StepFinder:
    """The ends of steps in tokens of one tokenizer.

    Whoever judges a step reads the token in which it ends. Data and sampled answers are cut by the
    same rule, so that a model is asked at the places at which it has learnt.
    """

    def __init__(self, template: ChatTemplate, separator: str = SEPARATOR) -> None:
        if not separator or separator[0] in " \t":
            raise UserError(
                f"separator is {separator!r}; it must not be empty nor begin with a blank."
            )
        self.separator = separator
        self._tokenizer: Any = template.tokenizer
        self._silent = set(template.stop_tokens)

    def ends(self, answer: Sequence[int], *, finished: bool = True) -> list[int]:
        """The tokens of an answer in which its steps end.

        Where the answer is ``finished``, the last step ends with its last token, which is the one
        that ends the turn; else a rest without a separator is no step.
        """
        said = list(answer)
        while said and said[-1] in self._silent:
            said.pop()
        pieces = _pieces(said, self._tokenizer.decode) if said else []
        ends = step_ends(pieces, self.separator, finished=finished)
        if not finished:
            return ends
        return [*ends[:-1], len(answer) - 1] if answer else []

    def in_text(self, steps: Sequence[str]) -> list[int]:
        """For each step of a text the number of ends up to its own, which may be several."""
        text = self.separator.join(steps)
        ends, found, upto = step_ends(text, self.separator), list[int](), 0
        for step in steps:
            upto += len(step) + len(self.separator)
            found.append(sum(end < upto for end in ends))
        return found


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
