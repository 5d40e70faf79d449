"""A verifier: a function of text, or a program that it calls, says what an answer is worth."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch

from backflip.data.batches import Rollouts
from backflip.data.chat import ChatTemplate
from backflip.reward.judge import as_text
from backflip.reward.protocol import Judgement

__all__ = ["Outcome", "Verdict", "Verifier"]


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


def _number(said: Any) -> float | None:
    """A finite number that float32 holds, or None; a text is none, even of digits."""
    if isinstance(said, str | bytes):
        return None
    try:
        number = float(said)
    except Exception:  # whatever the object's own conversion raises
        return None
    return number if abs(number) <= torch.finfo(torch.float32).max else None


def _no_number(said: Any) -> Verdict:
    shown = re.sub(r" at 0x[0-9a-f]+", "", repr(said))  # one reason, not one for each object
    return Verdict("error", reason=f"it returned {shown}, which is no finite number"[:200])


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """Scores answers by ``check(prompt, answer)``: a number, or True and False for 1 and 0.

    Both are text without control tokens; the prompt is all that stands before the answer, with the
    names of the roles where the template spells them. What ``check`` raises is the caller's: rounds
    leave such an answer without a score, and count it.
    """

    check: Callable[[str, str], float | bool]
    template: ChatTemplate
    """That of the policy whose tokens are judged."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        steps = rollouts.steps
        said = [
            float(self.check(self._text(prompt), self._text(answer)))
            for prompt, answer in zip(steps.prompt.rows(), steps.answer.rows(), strict=True)
        ]
        return Judgement(torch.tensor(said))

    def _text(self, tokens: torch.Tensor) -> str:
        return as_text(self.template, tokens.tolist())
