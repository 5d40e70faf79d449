"""Best of n: what it earns, and how far it goes from the policy, told from N ≥ n samples of it.

The usual KL, log n − (n − 1)/n, is ``statistics.kl_best_of_n``: exact where no two answers can
score the same. Where they do, ``kl_best_of_n_tied`` is exact.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["best_of_n_chance", "best_of_n_mean", "kl_best_of_n_tied", "win_probabilities"]


def best_of_n_chance(scores: Float[Tensor, "*prompts N"], *, n: int) -> Float[Tensor, "*prompts N"]:
    """P(each answer is the best of n drawn from the N, none twice), in float64.

    Ascending and without ties the i-th has C(i − 1, n − 1) / C(N, n). Equals share their chance.
    Raises ValueError unless 1 ≤ n ≤ N.
    """
    total = scores.shape[-1]
    if not 1 <= n <= total:
        raise ValueError(f"the best of {n} cannot be told from {total} answers: draw {n} or more")
    draws = math.comb(total, n)
    inside = torch.tensor(  # P(all n are among the m lowest); Σ C(i−1, n−1) over i ≤ m is C(m, n)
        [math.comb(m, n) / draws for m in range(total + 1)],
        dtype=torch.float64,
        device=scores.device,
    )
    own, other = scores[..., :, None], scores[..., None, :]
    below, upto = (other < own).sum(-1), (other <= own).sum(-1)
    return (inside[upto] - inside[below]) / (upto - below)


def best_of_n_mean(
    scores: Float[Tensor, "*prompts N"],
    values: Float[Tensor, "*prompts N"] | None = None,
    *,
    n: int,
) -> Float[Tensor, "*prompts"]:
    """E[value of the answer with the highest score among n], unbiased (Nakano et al., 2021).

    Σ C(i − 1, n − 1)/C(N, n) · value₍ᵢ₎, the answers sorted by ``scores``. ``values`` may be those
    of another judge, which was not maximised; without them they are the scores.
    """
    values = scores if values is None else values
    return (best_of_n_chance(scores, n=n) * values.double()).sum(-1)


def kl_best_of_n_tied(levels: Float[Tensor, " L"], *, n: int) -> float:
    """KL(best of n‖policy) in nats where answers tie, and one of the equals is drawn by lot.

    ``levels``: P(an answer of the policy has this score), lowest score first, adding up to 1. Best
    of n reaches level l with q = F(l)ⁿ − F(l−1)ⁿ and chooses within it as the policy does:
    Σ q log(q/p). Never above ``statistics.kl_best_of_n``, which many levels come near to.
    """
    p = levels.double()
    upto = p.cumsum(0)
    q = upto**n - (upto - p).clamp(min=0) ** n
    said = (p > 0) & (q > 0)
    return float((q[said] * (q[said] / p[said]).log()).sum())


def win_probabilities(scores: Float[Tensor, "*prompts N"]) -> Float[Tensor, "*prompts N"]:
    """P̂(answer i beats an answer of the policy) = 1/N Σⱼ σ(sᵢ − sⱼ) (Wu et al., 2024, Alg. 1).

    By Bradley-Terry on scores; j runs over all N samples of the policy, i itself among them, so
    that the N estimates average ½.
    """
    return (scores[..., :, None] - scores[..., None, :]).sigmoid().mean(-1)
