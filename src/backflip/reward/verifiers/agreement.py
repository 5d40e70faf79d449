"""How many of an answer's characters or words are the reference's, place by place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier


@dataclass(frozen=True, kw_only=True)
class Agreement(Verifier):
    """Share of places at which answer and reference agree, of those of the longer one.

    1 less Hamming's distance, with missing and surplus places as errors. Runs of white space count
    as one space.
    """

    linear: ClassVar[bool] = True

    unit: Literal["characters", "words"] = "characters"
    """Of a place."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del prompt, info
        said, right = answer.split(), reference.split()
        if not said:
            return Verdict("unparsable")
        if self.unit == "characters":
            said, right = [*" ".join(said)], [*" ".join(right)]
        same = sum(a == b for a, b in zip(said, right, strict=False))
        return Verdict.share(same / max(len(said), len(right)))
