"""Counts and costs of a stage, before it is trained."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from backflip.data.batches import ComparisonBatch
from backflip.data.ragged import Ragged
from backflip.data.readings import Reading

TRIAL_STEPS = 4
"""Steps that are measured; the first warms up and is not counted."""
VALIDATION_SHARE = 0.4
"""Time of a forward pass or a sample, as a share of learning from the same row."""


LOOKED_AT = 64
"""Prompts whose beginnings are compared."""


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a row."""

    prompt: float
    answers: float
    """Of all of its answers together."""
    count: float = 1.0
    """Answers of a row."""
    shared: float = 0.0
    """Tokens of a prompt that all rows begin with, which a forest reads once."""
    seen: float | None = None
    """Mean tokens that a token sees, where they have been counted."""

    @property
    def tokens(self) -> float:
        """Tokens of a prompt with its answers; a shared prompt counts once."""
        return self.prompt + self.answers

    @property
    def runs(self) -> float:
        """Prompt and answers, as attention reads them; a single answer goes with its prompt."""
        return 1 + self.count if self.count > 1 else 1.0

    @property
    def keys(self) -> float:
        """Mean tokens that a token sees: those before it, of its prompt and its own answer."""
        if self.seen is not None:
            return self.seen
        each = self.answers / self.count
        seen = self.prompt * self.prompt / 2 + self.answers * (self.prompt + each / 2)
        return seen / max(self.tokens, 1.0)


@dataclass(frozen=True)
class Plan:
    """Counts of one stage, made without loading any weights."""

    stage: str
    parameters: int
    """Of the models that learn: for PPO, policy and critic."""
    trainable: int
    rows: int
    """Rows (for PPO: prompts) to learn from."""
    held_out: int
    """Rows to measure by."""
    left_out: int
    """Rows that do not fit or cannot be used."""
    steps: int
    tokens: int
    """Prompts and answers over all steps, each counted once; for PPO, as if no answer ended."""
    said: tuple[str, ...] = ()
    """Sentences about reading the data."""
    shown: tuple[Reading, ...] = ()
    """The first rows as the model will read them."""
    lengths: Lengths | None = None
    """Mean tokens of the rows; None where they are not known before they are written."""

    def sampling(self, step: float, prompts: int, tokens: int) -> float:
        """Seconds of writing so many tokens to each of the held-out prompts that are sampled.

        ``step``: seconds of an optimiser step.
        """
        asked = min(prompts, self.held_out)
        return VALIDATION_SHARE * step * asked * tokens / (self.tokens / self.steps)


@dataclass(frozen=True)
class StageForecast:
    """Time and disk that one stage will take."""

    stage: str
    seconds_per_step: float
    seconds: float
    """All steps and validations, and what the reference says of all rows before."""
    tokens_per_second: float
    disk_gb: float
    """Model, adapter and the checkpoints that are kept, in 10⁹ bytes."""


class Costs:
    """Costs of a stage, as far as they differ from stage to stage."""

    @property
    def answers_per_row(self) -> int:
        """Answers that one row of a step holds."""
        return 1

    def rows_validated(self, held_out: int) -> int:
        """Rows of a validation, of so many that are held out."""
        return held_out

    def lengths(self, data: Any) -> Lengths:
        """Mean tokens of a prompt and of its answers."""
        if isinstance(data, ComparisonBatch):
            steps, first = data.answers.values, data.answers.offsets[:-1]
            prompts, count = steps.prompt.lengths[first], len(steps) / len(data)
        else:
            steps, prompts, count = data.steps, data.steps.prompt.lengths, 1.0
        rows = len(data)
        answers = float(steps.answer.lengths.sum()) / rows
        return Lengths(float(prompts.sum()) / rows, answers, count, beginning(steps.prompt))

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        """The models that learn, made of language models without weights."""
        return [causal()]

    def trial_settings(self) -> dict[str, Any]:
        """Settings of a trial of a few steps, beside those of all stages."""
        return {}

    def beside(self, plan: Plan, step: float, row: float) -> tuple[float, float]:
        """Seconds beside steps and held-out rows: (once in a run, at each validation).

        ``step`` and ``row``: seconds of a step, and of reading a row without learning from it.
        """
        del plan, step, row
        return 0.0, 0.0


def beginning(prompts: Ragged[Any]) -> int:
    """Tokens that all prompts begin with, such as a system message; seen on the first ones."""
    first = [prompts.row(row).tolist() for row in range(min(len(prompts), LOOKED_AT))]
    columns = zip(*first, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
