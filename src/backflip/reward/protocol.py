"""Sources of reward: the protocol, and a weighted mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.data.records import Tally
from backflip.functional.credit import at_end


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

    def rewards(self, mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Rewards in time: a score of the whole answer stands on the last choice of ``mask``."""
        return at_end(self.scores, mask) if self.steps is None else self.steps

    def of(self, rows: Tensor) -> Judgement:
        """The same of some of the answers."""
        parts = {name: values[rows] for name, values in self.parts.items()}
        steps = None if self.steps is None else self.steps[rows]
        return Judgement(self.scores[rows], parts, steps, self.failures)


@runtime_checkable
class RewardSource(Protocol):
    """A reward model, a verifier, a judge, or a mix of them."""

    def __call__(self, rollouts: Rollouts) -> Judgement: ...


@dataclass(frozen=True)
class Mix:
    """Σ weight · score over several sources, each of them watched under its name."""

    sources: Mapping[str, RewardSource]
    weights: Sequence[float]

    def __call__(self, rollouts: Rollouts) -> Judgement:
        judged = {name: source(rollouts) for name, source in self.sources.items()}
        scores = torch.stack([j.scores for j in judged.values()])
        weights = scores.new_tensor(list(self.weights))
        parts = {name: j.scores for name, j in judged.items()}
        for name, judgement in judged.items():
            parts |= {f"{name}_{part}": value for part, value in judgement.parts.items()}
        failures = Tally()
        for judgement in judged.values():
            failures.update(judgement.failures)
        steps = None
        if any(j.steps is not None for j in judged.values()):
            in_time = torch.stack([j.rewards(rollouts.mask) for j in judged.values()])
            steps = (weights[:, None, None] * in_time).sum(0)
        return Judgement((weights[:, None] * scores).sum(0), parts, steps, failures)
