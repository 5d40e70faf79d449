"""Guessing a number: higher or lower, until it is found."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from backflip.data.records import Message, Messages, Prompt
from backflip.environments.protocol import Step

__all__ = ["GuessingGame"]


@dataclass
class GuessingGame:
    """The reward is 1 for the turn that names the number, which the seed draws.

    The last whole number of a turn is the guess. The prompt is the row's own.
    """

    low: int = 1
    high: int = 100
    secret: int = field(default=0, init=False)

    def reset(self, prompt: Prompt, seed: int) -> Messages:
        self.secret = random.Random(seed).randint(self.low, self.high)
        return prompt.messages

    def step(self, text: str) -> Step:
        numbers = re.findall(r"-?\d+", text[-200:])
        if not numbers or len(numbers[-1]) > 18:
            return Step((Message("user", "Name a whole number."),), malformed=1)
        guess = int(numbers[-1])
        if guess == self.secret:
            return Step(done=True, reward=1.0)
        return Step((Message("user", "higher" if guess < self.secret else "lower"),))
