"""A verdict: the outcome of checking one answer. Imports nothing heavy: workers read this file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

__all__ = ["Outcome", "Verdict"]

LARGEST = 3.4028234663852886e38
"""The largest number that float32 holds."""
Outcome: TypeAlias = Literal["correct", "incorrect", "unparsable", "error", "timeout", "scored"]
"""Ends of a check: right, wrong, an answer that holds nothing to check, a check that failed or took
too long, and a number in place of a verdict."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of checking one answer."""

    outcome: Outcome
    score: float | None = None
    """None where the check could not be made: the answer teaches nothing."""
    reason: str = ""

    @staticmethod
    def of(said: Any) -> Verdict:
        """A verdict out of a function's result: a number, True, False, None or a verdict.

        Correct answers score 1, incorrect and unparsable ones 0, unless the verdict has a score.
        """
        if isinstance(said, Verdict):
            if said.score is not None:
                return said if _number(said.score) is not None else _no_number(said.score)
            judged = said.outcome in ("correct", "incorrect", "unparsable")
            return replace(said, score=float(said.outcome == "correct")) if judged else said
        number = _number(said)
        if number is None:
            return _no_number(said)
        if isinstance(said, bool) or str(getattr(said, "dtype", "")) in ("bool", "torch.bool"):
            return Verdict("correct" if number else "incorrect", number)
        return Verdict("scored", number)

    @staticmethod
    def share(share: float, reason: str = "") -> Verdict:
        """The verdict of a share of being right: all of it is correct, none of it incorrect."""
        if share in (0, 1):
            return Verdict("correct" if share else "incorrect", reason=reason)
        return Verdict("scored", share, reason)

    @staticmethod
    def failed(error: BaseException) -> Verdict:
        """The verdict of a check that has raised."""
        return Verdict("error", reason=f"{type(error).__name__}: {error}"[:200])


def _number(said: Any) -> float | None:
    """A finite number that float32 holds, or None; a text is none, even of digits."""
    if isinstance(said, str | bytes):
        return None
    try:
        number = float(said)
    except Exception:  # whatever the object's own conversion raises
        return None
    return number if abs(number) <= LARGEST else None


def _no_number(said: Any) -> Verdict:
    shown = re.sub(r" at 0x[0-9a-f]+", "", repr(said))  # one reason, not one for each object
    return Verdict("error", reason=f"it returned {shown[:120]}, which is no finite number")
