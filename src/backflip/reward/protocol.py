"""Who judges an answer: the protocol, and a weighted mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts


@dataclass(frozen=True)
class Judgement:
    """What was said of B answers."""

    scores: Float[Tensor, " B"]
    """What the policy is to raise."""
    parts: Mapping[str, Float[Tensor, " B"]] = field(default_factory=dict[str, Tensor])
    """What it is to be watched by, or made of: a held-out head, the sources of a mix."""


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
        return Judgement((weights[:, None] * scores).sum(0), parts)
