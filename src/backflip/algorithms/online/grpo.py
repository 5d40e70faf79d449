"""GRPO: an answer is as good as it is better than its siblings (Shao et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.kl_penalty import KLCoef
from backflip.algorithms.online.policy_loss import AsymmetricClip, Reduction

__all__ = ["GRPO"]


@dataclass(frozen=True, kw_only=True)
class GRPO(GroupRelative, AsymmetricClip):
    """Advantage = (reward − mean of the siblings) / their deviation; the KL stands in the loss.

    The clipped surrogate and k3 are averaged within each answer, then over answers (eq. 3), so that
    tokens of long answers weigh less; there is no critic. Answers that all score the same teach
    nothing but the leash.
    """

    title: ClassVar[str] = "GRPO"

    kl_coef: KLCoef = 0.04
    """β, the weight of KL(π‖reference) in nats a token, beside the surrogate."""
    reduction: Reduction = "sequence_mean"
    """Within each answer, then over answers; or over all tokens of the batch (``token_mean``), or
    the sum over ``length`` tokens for each answer (``constant``, Dr. GRPO)."""
