"""KL(π‖ref) in nats, from samples of π (Schulman, "Approximating KL divergence", 2020), or exact.

In a reward use k1. In a loss use k2, whose gradient is that of KL(π‖ref), or k3, whose gradient is
that of KL(ref‖π), and that of KL(π‖ref) once it is multiplied by π/π_old; k1 is useless there,
because its gradient is zero on average.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios beyond this are held here before exp: e²⁰ is 5·10⁸, e⁹⁰ no longer a float32."""


def ratio(
    logp: Float[Tensor, "*shape"], logp_old: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """π/π_old, with the log-ratio held within ±20 so that it stays a number."""
    return (logp - logp_old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def kl_k1(
    logp: Float[Tensor, "*shape"], logp_ref: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The log-ratio, log π − log ref: unbiased, noisy, can be negative."""
    return logp - logp_ref


def kl_k2(
    logp: Float[Tensor, "*shape"], logp_ref: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """½ (log π − log ref)²: biased, but its gradient is that of KL(π‖ref) on average."""
    return 0.5 * (logp - logp_ref) ** 2


def kl_k3(
    logp: Float[Tensor, "*shape"], logp_ref: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """ref/π − 1 − log(ref/π): unbiased, quieter than k1, never negative."""
    log_ratio = (logp_ref - logp).clamp(max=MAX_LOG_RATIO)
    return torch.expm1(log_ratio) - log_ratio


def kl_k3_unbiased(
    logp: Float[Tensor, "*shape"],
    logp_ref: Float[Tensor, "*shape"],
    logp_old: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """k3 · π/π_old, for choices of π_old: KL(π‖ref) on average, and so is its gradient.

    The ratio carries a gradient (DeepSeek-AI, "DeepSeek-V3.2", 2025, §3.1).
    """
    return kl_k3(logp, logp_ref) * ratio(logp, logp_old)


def kl_exact(
    logp: Float[Tensor, "*shape V"], logp_ref: Float[Tensor, "*shape V"]
) -> Float[Tensor, "*shape"]:
    """Σ π (log π − log ref) over the whole vocabulary V: no estimate, 0 where both are the same."""
    return (logp.exp() * (logp - logp_ref)).sum(-1).clamp(min=0.0)


LARGE_KL = 20.0
"""KL of answers, in nats each, beyond which a policy is far from its reference: a reward model has
seen nothing like what it writes. Published RLHF runs end between about 5 and 15."""


def answer_kl(
    logp: Float[Tensor, "B T"], logp_ref: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """KL(π‖ref) of each answer, in nats: Σ k1 over its choices. Unbiased, can be negative."""
    return torch.where(mask, kl_k1(logp, logp_ref), 0.0).sum(-1)


def adaptive_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: int, rows: int) -> float:
    """The coefficient for the next step (Ziegler et al., 2019, §2.2).

    β ← β · (1 + clip(kl/target − 1, −0.2, 0.2) · rows/horizon)

    ``kl`` and ``target`` are nats per answer; ``rows`` is how many answers the step saw and
    ``horizon`` how many it takes to follow an error in full.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * rows / horizon)
