"""Terms of the losses of online algorithms, per token: each algorithm adds up its own."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Experience
from backflip.functional.kl import kl_k3
from backflip.functional.policy_losses import clip_fraction, clipped_surrogate
from backflip.functional.reductions import Loss, token_mean

__all__ = ["surrogate", "watched"]


def surrogate(
    now: Mapping[str, Tensor], batch: Experience, eps_low: float, eps_high: float
) -> Float[Tensor, "B T"]:
    """The clipped surrogate (Schulman et al., 2017, eq. 7) of each choice, negated to be a loss."""
    clip = {"eps_low": eps_low, "eps_high": eps_high}
    return clipped_surrogate(now["logp"], batch.scored.logp_old, batch.advantages, **clip)


def watched(
    now: Mapping[str, Tensor], batch: Experience, policy: Loss, eps_low: float, eps_high: float
) -> dict[str, Loss]:
    """Metrics of a step: the policy's loss, entropy, KL from the old policy, share clipped."""
    s, mask, logp = batch.scored, batch.scored.rollouts.mask, now["logp"].detach()
    clip = {"eps_low": eps_low, "eps_high": eps_high}
    clipped = clip_fraction(logp, s.logp_old, batch.advantages, **clip)
    return {
        "policy_loss": policy.detached(),
        "entropy": token_mean(now["entropy"].detach(), mask),
        "approx_kl": token_mean(kl_k3(s.logp_old, logp), mask),
        "clip_fraction": token_mean(clipped, mask),
    }
