"""Parts shared by the losses of online algorithms: reduction, KL, entropy, numbers to watch."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.algorithms.base import Outcome
from backflip.algorithms.online.kl_penalty import KLPenalty
from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience
from backflip.errors import UserError
from backflip.functional.kl import kl_k3
from backflip.functional.policy_losses import clip_fraction, clipped_surrogate, dual_clip
from backflip.functional.reductions import Loss, sequence_mean, sequence_sum, token_mean

__all__ = ["AsymmetricClip", "Clip", "ClippedLoss", "PolicyLoss", "Reduction"]

Reduction = Literal["token_mean", "sequence_mean", "constant"]
Clip = Annotated[
    float, Within(0.0, 1.0, "the ratio is clipped by it"), Usual(0.1, 0.3, "0.2 (0.28 above: DAPO)")
]
DualClip = Annotated[
    float | None,
    Within(1.0, math.inf, "at 1 it would cut at the old policy itself", open=True),
    Usual(2.0, 10.0, "3 (Ye et al., 2020), 10 (verl's recipe of DAPO)"),
]


@dataclass(frozen=True, kw_only=True)
class PolicyLoss(KLPenalty):
    """A surrogate of each choice, reduced over the optimiser's whole batch, beside KL and entropy.

    A new algorithm says its ``surrogate`` (and ``clipped``, where it takes gradients away) and its
    ``credit``; all else is here. Corrections of the sampler weigh the surrogate alone.
    """

    reduction: Reduction = "token_mean"
    """Over all tokens of the batch; within each answer, then over answers; or their sum over
    ``length`` tokens for each answer (Dr. GRPO)."""
    length: Annotated[int | None, Within(1, math.inf, "losses are divided by it")] = None
    """Tokens that the constant reduction divides by: the longest answer that may be drawn."""
    entropy_coef: Annotated[float, Usual(0.0, 0.01, "0; bonuses above 0.01 end in noise")] = 0.0
    """Reward of one nat of entropy, in the loss."""
    overlong_filter: bool = False
    """Leave answers that a length limit cut off out of the loss (DAPO: Yu et al., 2025, §3.4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction == "constant" and self.length is None:
            raise UserError(
                "reduction=constant divides by a fixed number of tokens, and length is not given. "
                "Set length to sampling.max_tokens."
            )

    @abstractmethod
    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        """The loss of each choice given the policy's numbers ``now``, before KL and weights."""

    def clipped(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        """1 where the surrogate takes the gradient of a choice away, else 0."""
        del batch
        return torch.zeros_like(now["logp"])

    def wanted(self) -> set[str]:
        """Names of the numbers that the policy is asked for."""
        return {"logp", "entropy"} | ({"entropy_to_raise"} if self.entropy_coef else set())

    def learnt(self, batch: Experience) -> Bool[Tensor, "B T"]:
        """The choices that are learnt from."""
        rollouts = batch.scored.rollouts
        return rollouts.mask & rollouts.finished[:, None] if self.overlong_filter else rollouts.mask

    def reduced(self, x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Loss:
        """Losses of choices, in the undivided form of the reduction."""
        if self.reduction == "token_mean":
            return token_mean(x, mask)
        if self.reduction == "sequence_mean":
            return sequence_mean(x, mask)
        return sequence_sum(x, mask, length=self.length or 1)

    def counts(self, batch: Experience) -> Mapping[str, Float[Tensor, ""]]:
        ones = torch.ones_like(batch.advantages)
        count = self.reduced(ones, self.learnt(batch)).count
        return {"policy": count, "entropy": count}

    def loss(self, model: Any, batch: Experience) -> Outcome:
        """Surrogate and KL of each choice, and the entropy bonus, in the same reduction."""
        now = model.evaluate(batch.scored.rollouts.steps, self.wanted())
        mask, per_token = self.learnt(batch), self.surrogate(now, batch) * batch.weight
        kl = self.kl_loss(now, batch)
        losses = {"policy": self.reduced(per_token if kl is None else per_token + kl, mask)}
        if self.entropy_coef:
            bonus = self.reduced(now["entropy_to_raise"], mask)
            losses["entropy"] = bonus.scaled(-self.entropy_coef)
        losses |= self.beside(now, batch)
        return Outcome(losses, self.watched(now, batch, losses["policy"]))

    def beside(self, now: Mapping[str, Tensor], batch: Experience) -> dict[str, Loss]:
        """Further terms; ``counts`` has their denominators."""
        del now, batch
        return {}

    def watched(
        self, now: Mapping[str, Tensor], batch: Experience, policy: Loss
    ) -> dict[str, Loss]:
        """Metrics: the policy's loss, entropy, KL from the old policy, share clipped."""
        s, mask, logp = batch.scored, batch.scored.rollouts.mask, now["logp"].detach()
        detached = {name: value.detach() for name, value in now.items()}
        return {
            "policy_loss": policy.detached(),
            "entropy": token_mean(detached["entropy"], mask),
            "approx_kl": token_mean(kl_k3(s.logp_old, logp), mask),
            "clip_fraction": token_mean(self.clipped(detached, batch), mask),
        }


@dataclass(frozen=True, kw_only=True)
class ClippedLoss(PolicyLoss):
    """The clipped surrogate of PPO (Schulman et al., 2017, eq. 7), once or twice clipped."""

    dual_clip: DualClip = None
    """A bad choice costs at most this times its |advantage| (Ye et al., 2020: 3); None: any."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dual_clip is not None and self.dual_clip <= 1 + self.sides[1]:
            raise UserError(
                f"dual_clip is {self.dual_clip:g}, within the clip at {1 + self.sides[1]:g}: it "
                "would replace it. Set dual_clip=3."
            )

    @property
    @abstractmethod
    def sides(self) -> tuple[float, float]:
        """How far below and above 1 a ratio still gains."""

    def surrogate(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        clip = {"eps_low": self.sides[0], "eps_high": self.sides[1]}
        old, advantages = batch.scored.logp_old, batch.advantages
        if self.dual_clip is None:
            return clipped_surrogate(now["logp"], old, advantages, **clip)
        return dual_clip(now["logp"], old, advantages, cap=self.dual_clip, **clip)

    def clipped(self, now: Mapping[str, Tensor], batch: Experience) -> Float[Tensor, "B T"]:
        old, (low, high) = batch.scored.logp_old, self.sides
        clip = {"eps_low": low, "eps_high": high}
        return clip_fraction(now["logp"], old, batch.advantages, cap=self.dual_clip, **clip)


@dataclass(frozen=True, kw_only=True)
class AsymmetricClip(ClippedLoss):
    """The clipped surrogate, with a width for each side."""

    eps_low: Clip = 0.2
    """A ratio of new to old probability gains nothing below 1 − eps_low."""
    eps_high: Clip = 0.2
    """Nor above 1 + eps_high."""

    @property
    def sides(self) -> tuple[float, float]:
        return self.eps_low, self.eps_high
