"""Mathematics: final answers compared as numbers and formulas, by the package math-verify."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.algebra import UnreadableError, same_formulas
from backflip.reward.verifiers.base import Verifier
from backflip.reward.verifiers.comparison import compared, conditions_of, normal_form
from backflip.reward.verifiers.final_answer import boxes, final_formula
from backflip.reward.verifiers.notation import is_words, plain

PERCENT = re.compile(r"%\s*[.$]*\s*$")

NAMED = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z]{2})")
"""A variable, of which letters without a sign between them may be a product."""


@dataclass(frozen=True, kw_only=True)
class Mathematics(Verifier):
    r"""The final answer is the reference as a number, formula, set, interval, matrix or equation.

    The final answer is the content of the last ``\boxed``; without one, the first formula in the
    sentence behind the last ``####``, ``A:``, ``<answer>`` or the word answer; without those, the
    last formula. Two answers joined by "or" must both be right. Fractions and decimals agree to six
    places, below a thousandth to a millionth of the number. Bases, ellipses, remainders and
    conditions are compared as they are written. Units are dropped, never converted; (1, 2) may be a
    point or an interval and agrees with 1, 2. What takes too long to work out is ``timeout``.
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
        answer, reference = plain(answer), plain(reference).strip()
        if not reference:
            return Verdict("error", reason="the reference answer is empty")
        gold = final_formula(reference) or reference
        piece = final_formula(answer, marked=self.marked, words=is_words(gold))
        if piece is None and self.marked:
            return Verdict("unparsable", reason="no marked answer")
        if not piece:
            return Verdict("unparsable", reason="no answer")
        if is_words(piece) and not is_words(gold) and (" " in piece or not NAMED.search(gold)):
            return Verdict("unparsable")
        clauses = conditions_of(piece)
        if len(clauses) == 1 and boxes(answer) is None and not conditions_of(gold):
            piece = clauses[0][0]  # "it is 11 when x = 4", of a question that says x = 4
        return self._compared(gold, piece)

    def final(self, answer: str) -> str | None:
        """The final answer in its normal form: 1/2, 0.5 and 50% are one vote."""
        piece = final_formula(plain(self.part(answer) or ""), marked=self.marked)
        if not piece or (is_words(piece) and len(piece.split()) > 3):
            return None
        return normal_form(piece, percent=self.percent == "strict") or None

    def _compared(self, gold: str, piece: str) -> Verdict:
        if self.percent == "strict" and bool(PERCENT.search(gold)) != bool(PERCENT.search(piece)):
            return Verdict("incorrect")
        try:
            right = compared(gold, piece, same_formulas)
        except UnreadableError as unread:
            if unread.gold:
                reason = "the reference answer holds nothing that can be checked"
                return Verdict("error", reason=reason)
            return Verdict("unparsable")
        except RecursionError:
            return Verdict("unparsable", reason="too many brackets")
        except MemoryError:
            return Verdict("timeout", reason="a number too large to work out")
        return Verdict("correct" if right else "incorrect")
