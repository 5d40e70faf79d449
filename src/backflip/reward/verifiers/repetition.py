"""How much of an answer it has said before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from backflip.reward.instructions.units import words
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier


@dataclass(frozen=True, kw_only=True)
class Repetition(Verifier):
    """At most a share of the answer's n-grams repeats one before (Welleck et al., 2020: seq-rep-n).

    The share is 1 − different n-grams / n-grams. Capitals do not count. Unparsable: no n-gram at
    all, so that shorter answers earn nothing by saying nothing.
    """

    needs_reference: ClassVar[bool] = False
    decides: ClassVar[bool] = False

    n: int = 3
    """Words, or characters, of an n-gram."""
    unit: Literal["words", "characters"] = "words"
    """Characters for scripts without blanks, for emoji and for loops inside of words."""
    most: float = 0.3
    """Largest share of repeated n-grams in an answer that is right."""
    partial: bool = False
    """Score 1 − the share in place of right and wrong."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del reference, prompt, info
        plain = answer.casefold()
        units = words(plain) if self.unit == "words" else list("".join(plain.split()))
        grams = list(zip(*(units[start:] for start in range(self.n)), strict=False))
        if not grams:
            return Verdict("unparsable")
        repeated = 1 - len(set(grams)) / len(grams)
        if self.partial:
            return Verdict("scored", 1 - repeated)
        return Verdict("correct" if repeated <= self.most else "incorrect")

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        if self.n < 1:
            yield f"{where}.n is {self.n}; it must be 1 or more."
        if not 0 <= self.most < 1:
            yield f"{where}.most is {self.most:g}, a share; it must be from 0 to below 1."
