"""Policy-gradient losses, per choice and not reduced.

Written for one log-probability per choice, ``[B, T]``; sum over T first and they treat the whole
answer as one action, ``[B]`` (RLOO).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.functional.kl import ratio


def reinforce(
    logp: Float[Tensor, "*shape"], advantages: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """−A · log π: make good choices likelier (Williams, 1992)."""
    return -logp * advantages


def clipped_surrogate(
    logp: Float[Tensor, "*shape"],
    logp_old: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
) -> Float[Tensor, "*shape"]:
    """REINFORCE that gains nothing beyond a ratio of 1 ± eps (Schulman et al., 2017, eq. 7).

    −min(r A, clip(r, 1 − eps_low, 1 + eps_high) A)   where   r = π/π_old

    ``eps_high > eps_low`` is DAPO's clip-higher (Yu et al., 2025).
    """
    r = ratio(logp, logp_old)
    clipped = r.clamp(1 - eps_low, 1 + eps_high)
    return -torch.minimum(r * advantages, clipped * advantages)


def dual_clip(
    logp: Float[Tensor, "*shape"],
    logp_old: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    cap: float = 3.0,
) -> Float[Tensor, "*shape"]:
    """The clipped surrogate, and a bad choice costs at most ``cap``·|A| (Ye et al., 2020, eq. 5).

    Without the cap a choice with A < 0 that has become much likelier since (r ≫ 1) has an
    unbounded loss. ``cap`` must exceed 1 + eps_high, or it replaces the clip.
    """
    loss = clipped_surrogate(logp, logp_old, advantages, eps_low=eps_low, eps_high=eps_high)
    return torch.where(advantages < 0, torch.minimum(loss, -cap * advantages), loss)


def clip_fraction(
    logp: Float[Tensor, "*shape"],
    logp_old: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    cap: float | None = None,
) -> Float[Tensor, "*shape"]:
    """1 where the clip takes the gradient away, else 0; its mean is the clip fraction.

    As in Ziegler et al. (2019): a ratio outside 1 ± eps counts only if its advantage pushes it
    further out. ``cap``: that of the dual clip, beyond which bad choices count too.
    """
    r = ratio(logp, logp_old)
    too_high: Bool[Tensor, "*shape"] = (advantages > 0) & (r > 1 + eps_high)
    too_low: Bool[Tensor, "*shape"] = (advantages < 0) & (r < 1 - eps_low)
    if cap is not None:
        too_low = too_low | ((advantages < 0) & (r > cap))
    return (too_high | too_low).to(logp.dtype)
