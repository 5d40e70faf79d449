"""Mathematics: final answers compared as numbers and formulas, by the package math-verify."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal

from backflip.data.references import boxed
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier
from backflip.reward.verifiers.notation import final, is_words, number_of, plain, ungrouped

SMALL = 1e-3
"""Numbers below it are compared by their ratio: math-verify rounds to six places."""
BASE = re.compile(r"\d_\s*\{?\d")
"""A number in another base than ten, such as 52_8."""
LOOSE = re.compile(
    r"\\left|\\right|\\[,;:! ]|\$|(?<!\d)\s+|\s+(?!\d)|\\(?:text|mathrm|mbox)\s*(?=\{)"
)
"""Signs that change no answer."""


@dataclass(frozen=True, kw_only=True)
class Mathematics(Verifier):
    r"""The final answer is the reference as a number, formula, set, interval, matrix or equation.

    The final answer is the content of the last ``\boxed``; without one, what follows the last
    ``####``, ``A:`` or the word answer; without those, the last thing that can be read. Fractions
    and decimals agree to six places. Units are dropped, never converted; (1, 2) may be a point or
    an interval and agrees with 1, 2. A formula that takes too long to work out is ``timeout``.
    """

    packages: ClassVar[Mapping[str, str]] = {"math_verify": "pip install 'backflip[math]'"}

    percent: Literal["loose", "strict"] = "loose"
    """loose: 50% is 50 and 0.5; strict: a percent sign stands in both answers or in neither."""
    marked: bool = False
    """Whether only a marked answer is read: in a box, behind ####, A: or the word answer."""
    seconds: float = 5.0
    """Time limit of one check, beyond which its worker is killed and the outcome is timeout."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del prompt, info
        answer, reference = plain(answer), plain(reference)
        gold = next(p for p in (boxed(reference), final(reference), reference) if p is not None)
        found = boxed(answer)
        marked = final(answer) if found is None else found
        if marked is None and self.marked:
            return Verdict("unparsable", reason="no marked answer")
        piece = answer.strip() if marked is None else marked
        if not piece:
            return Verdict("unparsable", reason="an empty answer")
        if not gold.strip():
            return Verdict("error", reason="the reference answer is empty")
        return self._compared(gold.strip(), piece, whole=found is not None)

    def final(self, answer: str) -> str | None:
        """The final answer, numbers by their value: 1,000 and $1000 are one vote."""
        text = plain(self.part(answer) or "")
        marked = final(text) if (found := boxed(text)) is None else found
        if marked is None:
            numbers = re.findall(r"[-+]?\d[\d,]*\.?\d*", text)
            marked = numbers[-1] if numbers and not self.marked else None
        if not marked or not marked.strip():
            return None
        number = number_of(marked)
        return LOOSE.sub("", marked).strip(" .") if number is None else f"{number.normalize():f}"

    def _compared(self, gold: str, piece: str, *, whole: bool) -> Verdict:
        if self.percent == "strict" and whole and ("%" in gold) != ("%" in piece):
            return Verdict("incorrect")
        if (same := compared_as_text(gold, piece)) is not None:
            return Verdict("correct" if same else "incorrect")
        golds = parsed(gold, whole=True)
        if not golds:
            return Verdict("error", reason="the reference answer holds nothing that can be checked")
        found = parsed(piece, whole=whole)
        if not found:
            return Verdict("unparsable")
        if self.percent == "strict" and any(map(is_percent, golds)) != any(map(is_percent, found)):
            return Verdict("incorrect")
        from math_verify import verify

        right = verify(golds, found, timeout_seconds=None)
        return Verdict("correct" if right else "incorrect")


def compared_as_text(gold: str, piece: str) -> bool | None:
    """Whether two answers are the same where that needs no algebra; None where it does."""
    if LOOSE.sub("", gold) == LOOSE.sub("", piece):
        return True
    if is_words(gold) and is_words(piece):
        return _words(gold) == _words(piece)
    if bool(BASE.search(gold)) != bool(BASE.search(piece)):
        return False
    ours, theirs = number_of(gold), number_of(piece)
    return None if ours is None or theirs is None else same_numbers(ours, theirs)


def same_numbers(ours: Decimal, theirs: Decimal) -> bool | None:
    """Whether two numbers are one; None where that is a matter of rounding."""
    if ours == theirs:
        return True
    if max(ours.copy_abs(), theirs.copy_abs()) < SMALL:
        return bool(ours and abs(theirs / ours - 1) < 1e-6)
    return False if _is_whole(ours) and _is_whole(theirs) else None


def _is_whole(number: Decimal) -> bool:
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= 0


def _words(piece: str) -> str:
    bare = re.sub(r"\\(?:text|mathrm|textbf|mbox)\s*\{([^{}]*)\}", r" \1 ", piece)
    return " ".join(bare.strip(" $.").casefold().split())


def parsed(piece: str, *, whole: bool) -> list[Any]:
    """Expressions that math-verify reads in a piece; ``whole``: all of it is the answer."""
    from math_verify import parse

    unbounded: Any = None  # the worker's limit stands in place of the parser's own
    piece = ungrouped(piece)
    texts = [f"\\boxed{{{piece}}}", piece] if whole else [piece]
    if not whole and "\\" in piece and "$" not in piece:
        texts = [f"${piece}$", piece]
    for text in texts:
        if found := parse(text, parsing_timeout=unbounded):
            return found
    return []


def is_percent(expression: Any) -> bool:
    """Whether math-verify read a percent sign."""
    from math_verify.grader import get_pct_val

    return get_pct_val(expression) is not None
