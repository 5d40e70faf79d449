"""Bounds on the length of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from backflip.reward.instructions.units import characters, sentences, words
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier


@dataclass(frozen=True, kw_only=True)
class Length(Verifier):
    """The answer has at least and at most so many words, characters or sentences."""

    needs_reference: ClassVar[bool] = False

    unit: Literal["words", "characters", "sentences"] = "words"
    """Unit of the bounds; in Chinese and Japanese each character is a word."""
    least: int = 1
    """Fewest units."""
    most: int | None = None
    """Most units; null bounds nothing."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del reference, prompt, info
        if not answer.strip():
            return Verdict("unparsable")
        count = {
            "words": lambda: len(words(answer)),
            "characters": lambda: characters(answer.strip()),
            "sentences": lambda: len(sentences(answer)),
        }[self.unit]()
        within = self.least <= count and (self.most is None or count <= self.most)
        return Verdict("correct" if within else "incorrect")

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        if self.most is None and self.least <= 1:
            yield f"{where} bounds nothing. Set {where}.least, {where}.most or both."
        if self.most is not None and not max(self.least, 1) <= self.most:
            yield f"{where}.least is {self.least} and {where}.most {self.most}: no answer fits."
