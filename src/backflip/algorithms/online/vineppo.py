"""VinePPO: PPO whose values are counted, not learnt (Kazemnejad et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from backflip.algorithms.base import Epochs
from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.surrogate import ClippedSurrogate
from backflip.data.batches import Experience, Scored
from backflip.functional.credit import step_gae, whiten

__all__ = ["VinePPO"]


@dataclass(frozen=True, kw_only=True)
class VinePPO(ClippedSurrogate):
    """Advantage of a line = value after it − value before it, by fresh continuations from both.

    PPO at λ = 0 whose values are Monte Carlo's: all tokens of a line, or of whatever
    ``values.at`` says, share its advantage. The KL stands in the loss, as the authors have it.
    """

    title: ClassVar[str] = "VinePPO"
    values_from: ClassVar[tuple[str, ...]] = ("monte_carlo",)

    epochs: Epochs = 2
    """Passes over each batch of experience."""
    kl_coef: KLCoef = 1e-4
    """β, the weight of KL(π‖reference) in nats a token, beside the surrogate."""
    kl_in: Literal["reward", "loss"] = "loss"
    """Where it is paid: taken off the reward of each choice, or a term beside the surrogate."""
    kl_kind: Literal["k1", "k2", "k3"] = "k3"
    """Its estimate: k1 in the reward, k2 or k3 in the loss."""

    def credit(self, scored: Scored) -> Experience:
        s, mask = scored, scored.rollouts.mask
        advantages = step_gae(self.rewards(s), s.values, mask, s.states, lam=0.0)
        white = whiten(advantages, mask) if self.whiten_advantages else advantages
        return Experience(scored, white, advantages + s.values)
