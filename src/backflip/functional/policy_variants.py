"""Policy-gradient losses beside PPO's, per choice and not reduced.

They differ in what bounds the ratio π/π_old: of the whole answer (GSPO, GMPO), under no gradient
(CISPO, DPPO), softly (SAPO), or for single choices picked by their covariance (Clip-Cov, KL-Cov).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.functional.kl import MAX_LOG_RATIO, ratio
from backflip.functional.policy_losses import clipped_surrogate

SURE = 1e-7
"""A probability is held below 1 − this where log(1 − p) is taken."""


def mean_log_ratio(
    logp: Float[Tensor, "B T"], logp_old: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B 1"]:
    """(1/n) Σ (log π − log π_old) over the n choices of each answer; 0 where it has none."""
    length = mask.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(mask, logp - logp_old, 0.0).sum(-1, keepdim=True) / length


def gspo(
    logp: Float[Tensor, "B T"],
    logp_old: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    eps_low: float = 3e-4,
    eps_high: float = 4e-4,
) -> Float[Tensor, "B T"]:
    """The clipped surrogate of the answer's ratio per token, on each choice (Zheng et al., 2025).

    −min(s A, clip(s, 1 − eps_low, 1 + eps_high) A)   where   s = (π/π_old of the answer)^(1/n)

    (§4.1). The ratio is so near 1 that its clip is some five hundred times narrower than PPO's.
    """
    log_s = mean_log_ratio(logp, logp_old, mask).expand_as(logp)
    clip = {"eps_low": eps_low, "eps_high": eps_high}
    return clipped_surrogate(log_s, torch.zeros_like(log_s), advantages, **clip)


def gspo_token(
    logp: Float[Tensor, "B T"],
    logp_old: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    eps_low: float = 3e-4,
    eps_high: float = 4e-4,
) -> Float[Tensor, "B T"]:
    """GSPO whose choices may have advantages of their own (Zheng et al., 2025, §4.3).

    The value of the ratio is the answer's, its gradient that of the choice: sg(s)·π/sg(π). Equal
    advantages give the same loss and gradient as ``gspo``, averaged within the answer.
    """
    log_s = mean_log_ratio(logp, logp_old, mask).detach() + logp - logp.detach()
    clip = {"eps_low": eps_low, "eps_high": eps_high}
    return clipped_surrogate(log_s, torch.zeros_like(log_s), advantages, **clip)


def cispo(
    logp: Float[Tensor, "*shape"],
    logp_old: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    *,
    cap: float = 5.0,
) -> Float[Tensor, "*shape"]:
    """REINFORCE weighed by the capped ratio: no choice loses its gradient (MiniMax-M1, 2025).

    −sg(min(r, cap)) A log π, without a lower bound.
    """
    return -ratio(logp, logp_old).clamp(max=cap).detach() * advantages * logp


def sapo(
    logp: Float[Tensor, "*shape"],
    logp_old: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    *,
    tau_good: float = 1.0,
    tau_bad: float = 1.05,
) -> Float[Tensor, "*shape"]:
    """A sigmoid gate in the place of the clip (Gao et al., 2025).

    −(4/τ) σ(τ (r − 1)) A, with τ by the sign of A. Its gradient at r = 1 is REINFORCE's and fades
    as r moves away; its value there is −2A/τ, which says nothing.
    """
    tau = torch.where(advantages > 0, tau_good, tau_bad).to(logp.dtype)
    return -4 / tau * torch.sigmoid(tau * (ratio(logp, logp_old) - 1)) * advantages


def gmpo(
    logp: Float[Tensor, "B T"],
    logp_old: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    eps_low: float = 0.4,
    eps_high: float = 0.4,
) -> Float[Tensor, "B T"]:
    """−A times the geometric mean of the answer's clipped ratios (Zhao et al., 2025).

    Log-ratios are clipped, to ±0.4 there, on the side that the advantage pushes to, each before
    the mean over the answer is taken.
    """
    log_r = (logp - logp_old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    held = torch.where(advantages > 0, log_r.clamp(max=eps_high), log_r.clamp(min=-eps_low))
    return -mean_log_ratio(held, torch.zeros_like(held), mask).exp() * advantages


def vespo(
    logp: Float[Tensor, "B T"],
    logp_old: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    good: tuple[float, float] = (2.0, 3.0),
    bad: tuple[float, float] = (3.0, 2.0),
) -> Float[Tensor, "B T"]:
    """REINFORCE weighed by a bump of the whole answer's ratio w (VESPO, arXiv 2602.10693).

    −sg(φ(w)) A log π   where   φ(w) = w^k e^(λ(1 − w)),   φ(1) = 1

    ``good`` and ``bad``: (k, λ) for advantages of 0 and above, and below 0. As in TRL 1.16.
    """
    moved = (logp - logp_old).detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    log_w = torch.where(mask, moved, 0.0).sum(-1, keepdim=True)
    log_w = log_w.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    up = advantages >= 0
    k, lam = torch.where(up, good[0], bad[0]), torch.where(up, good[1], bad[1])
    weight = (lam + k * log_w - lam * log_w.exp()).exp()
    return -weight.to(logp.dtype) * advantages * logp


def binary_tv(
    logp: Float[Tensor, "*shape"], logp_from: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """|π − μ| of the choice: total variation between chosen and not chosen (Qi et al., 2026)."""
    return (logp.exp() - logp_from.exp()).abs()


def binary_kl(
    logp: Float[Tensor, "*shape"], logp_from: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """KL(μ‖π) in nats between chosen and not chosen (Qi et al., 2026): never negative."""
    p, q = logp_from.exp().clamp(max=1 - SURE), logp.exp().clamp(max=1 - SURE)
    others = (1 - p) * (torch.log1p(-p) - torch.log1p(-q))
    return (p * (logp_from - logp) + others).clamp(min=0.0)


DIVERGENCES = {"tv": binary_tv, "kl": binary_kl}
"""Divergences of two policies by the choice that was made, by name."""


def beyond_trust(
    logp: Float[Tensor, "*shape"],
    logp_from: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    *,
    delta: float,
    divergence: str = "tv",
) -> Bool[Tensor, "*shape"]:
    """Choices whose divergence is above ``delta`` and that their advantage pushes further out."""
    away = torch.where(advantages > 0, logp > logp_from, logp < logp_from)
    return away & (DIVERGENCES[divergence](logp, logp_from) > delta)


def dppo(
    logp: Float[Tensor, "*shape"],
    logp_from: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    *,
    delta: float = 0.15,
    divergence: str = "tv",
    cap: float = 20.0,
) -> Float[Tensor, "*shape"]:
    """REINFORCE by the capped ratio, but for choices ``beyond_trust`` (Qi et al., 2026).

    −sg(min(r, cap)) A log π, with r = π/μ and μ whoever drew the choice.
    """
    kept = ~beyond_trust(logp.detach(), logp_from, advantages, delta=delta, divergence=divergence)
    return kept * cispo(logp, logp_from, advantages, cap=cap)


def covariance(
    logp: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """(log π − mean)(A − mean), means over the choices of the batch (Cui et al., 2025, §4).

    Its mean over a batch is how fast entropy falls. Zero where ``mask`` is False.
    """
    centred = (logp - logp[mask].mean()) * (advantages - advantages[mask].mean())
    return torch.where(mask, centred, 0.0)
