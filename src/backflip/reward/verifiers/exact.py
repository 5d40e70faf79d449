"""Exact match of the whole answer, after the differences in writing that do not count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier


@dataclass(frozen=True, kw_only=True)
class Exact(Verifier):
    """The answer is the reference, letter by letter, runs of white space counting as one space."""

    linear: ClassVar[bool] = True

    case: bool = True
    """Whether capitals count."""
    punctuation: bool = True
    """Whether a full stop or the like at the end counts."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del prompt, info
        if not answer.strip():
            return Verdict("unparsable")
        same = self._plain(answer) == self._plain(reference)
        return Verdict("correct" if same else "incorrect")

    def _plain(self, text: str) -> str:
        text = " ".join(text.split())
        if not self.punctuation:
            text = text.rstrip(".,;:!? ")
        return text if self.case else text.casefold()
