"""The policy gradient itself, for answers of the very policy that learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.policy_loss import PolicyLoss
from backflip.data.batches import Experience
from backflip.functional.policy_losses import reinforce

__all__ = ["OnPolicy"]


@dataclass(frozen=True, kw_only=True)
class OnPolicy(PolicyLoss):
    """−A · log π, without a ratio: right for one optimiser step on each round's answers."""

    on_policy: ClassVar[bool] = True

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        return reinforce(now["logp"], batch.advantages)
