"""Sources of reward: the protocol, and what one hands out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.data.batches import Rollouts, rewarded
from backflip.data.records import Tally
from backflip.distributed.world import here
from backflip.functional.credit import at_end
from backflip.monitor.outcomes import FAILED, VERDICTS


@dataclass(frozen=True)
class Judgement:
    """Scores of B answers, with components to watch."""

    scores: Float[Tensor, " B"]
    """Score of each answer, which the policy is to raise; NaN where there is none."""
    parts: Mapping[str, Float[Tensor, " B"]] = field(default_factory=dict[str, Tensor])
    """Scores to watch: of a held-out head, of the sources of a mix."""
    steps: Float[Tensor, "B T"] | None = None
    """Reward after each choice, whose sum is the score; None for a score of the whole answer."""
    failures: Tally = field(default_factory=Tally, compare=False)
    """Answers without a score, by reason."""
    ends: Bool[Tensor, "B T"] | None = None
    """True on the last choice of each step that ``steps`` rewards, be it with 0; None: see
    ``step_ends``."""
    terms: Float[Tensor, "B K"] | None = None
    """Scores of K sources whose weighted sum is the score; None where there is one."""
    weights: tuple[float, ...] = (1.0,)
    """Weights of these K."""

    def right(self) -> Float[Tensor, " B"] | None:
        """1 where an answer was found right, 0 elsewhere; None where nobody gives verdicts.

        A check that failed or took too long has found nothing.
        """
        if not any(name in self.parts for name in VERDICTS):
            return None
        return self.parts.get("correct", torch.zeros_like(self.scores))

    def failed(self) -> Bool[Tensor, " B"]:
        """True where a check failed or took too long."""
        shares = [self.parts[name] for name in FAILED if name in self.parts]
        return sum(shares, torch.zeros_like(self.scores)) > 0

    def votes(self, texts: Sequence[str], final: Callable[[str], Hashable]) -> list[Hashable]:
        """The final answers in B answers, by which votes are counted; None abstains.

        So does an answer whose check failed or took too long: reading its final answer is the same
        work, which no worker bounds.
        """
        failed = self.failed().tolist()
        return [None if lost else final(text) for text, lost in zip(texts, failed, strict=True)]

    def rewards(self, mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Rewards in time: a score of the whole answer stands on the last choice of ``mask``."""
        return at_end(self.scores, mask) if self.steps is None else self.steps

    def step_ends(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        """Where steps end: as said, or where a reward is not 0, and at the last choice."""
        return rewarded(self.rewards(mask), mask) if self.ends is None else self.ends

    def of(self, rows: Tensor) -> Judgement:
        """The same of some of the answers."""
        parts = {name: values[rows] for name, values in self.parts.items()}
        some = {name: getattr(self, name) for name in ("steps", "ends", "terms")}
        some = {name: value[rows] for name, value in some.items() if value is not None}
        return replace(self, scores=self.scores[rows], parts=parts, **some)


@runtime_checkable
class RewardSource(Protocol):
    """A reward model, a verifier, a judge, or a mix of them."""

    def __call__(self, rollouts: Rollouts) -> Judgement: ...


@dataclass(frozen=True)
class Told:
    """A source that rank 0 alone asks: a clock or a program may say something else each time."""

    source: RewardSource

    def __call__(self, rollouts: Rollouts) -> Judgement:
        return here().once(lambda: self.source(rollouts))
