"""A verifier: a function of text, or a program that it calls, says what an answer is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from backflip.data.batches import Rollouts
from backflip.data.chat import ChatTemplate
from backflip.reward.judge import as_text
from backflip.reward.protocol import Judgement

__all__ = ["Verifier"]


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
