"""Losses and weights from comparisons that no recipe ships: to try out, or to compare with.

Symbols and shapes are those of ``preference_losses``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.functional.reward_losses import bradley_terry


def aot(
    policy_delta: Float[Tensor, " P"],
    ref_delta: Float[Tensor, " P"],
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " P"]:
    """−log σ(β·(q − q_ref)) of the sorted differences of log-likelihood, one per quantile.

    Optimal transport couples the smallest difference under the policy with the smallest under the
    reference, and so on: the policy's distribution is to dominate (Melnyk et al., 2024, paired).
    The coupling sees the P pairs together: it depends on how a batch is cut.
    """
    delta = policy_delta.sort().values - ref_delta.sort().values
    return bradley_terry(beta * delta, 0.0, 1 - label_smoothing)


def aot_unpaired(
    better: Float[Tensor, " P"],
    worse: Float[Tensor, " P"],
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " P"]:
    """The same for answers that need not share a prompt: log-ratios of good and bad ones, sorted.

    Melnyk et al. (2024, unpaired). As many good answers as bad ones.
    """
    delta = better.sort().values - worse.sort().values
    return bradley_terry(beta * delta, 0.0, 1 - label_smoothing)


def discopop(
    delta: Float[Tensor, "*shape"], *, beta: float, temperature: float = 0.05
) -> Float[Tensor, "*shape"]:
    """−(1 − z)·log σ(β·delta) + z·exp(−β·delta), z = σ(β·delta/τ) (Lu et al., 2024: LRML).

    Found by a language model that searched for losses. Not convex.
    """
    x = beta * delta
    gate = (x / temperature).sigmoid()
    return (1 - gate) * nnf.softplus(-x) + gate * (-x).exp()


def alpha_po(
    better: Float[Tensor, "*shape"],
    worse: Float[Tensor, "*shape"],
    *,
    beta: float,
    gamma: float,
    alpha: float,
) -> Float[Tensor, "*shape"]:
    """−log σ(β·[(1 − p_w^−α) − (1 − p_l^−α)]/α − γ), p = exp(mean log-likelihood of a token).

    AlphaPO (Gupta et al., 2025): SimPO with another shape of reward; α → 0 is SimPO. α ≠ 0.
    """
    reward = [-torch.expm1(-alpha * logp) / alpha for logp in (better, worse)]
    return nnf.softplus(gamma - beta * (reward[0] - reward[1]))


def wpo_weight(
    logp: Float[Tensor, "N T"], log_collision: Float[Tensor, "N T"], mask: Bool[Tensor, "N T"]
) -> Float[Tensor, " N"]:
    """How likely the policy itself were to write an answer; no gradient (WPO: Zhou et al., 2024).

    exp(mean_t [log π(y_t) − log Σ_v π(v)²]): the probability of each token over its mean, had the
    policy sampled it. ``log_collision`` is log Σ_v π(v)² at each token. A pair's loss is weighed
    by the product of its two weights.
    """
    length = mask.sum(-1).clamp(min=1)
    relative = torch.where(mask, logp - log_collision, 0.0).sum(-1) / length
    return relative.exp().detach()


def ld_weights(
    mask: Bool[Tensor, "P T"], other: Bool[Tensor, "P T2"], *, alpha: float
) -> Float[Tensor, "P T"]:
    """Weights of the tokens of one answer of each pair: what outlasts the other counts α.

    LD-DPO (Liu et al., 2024): log-likelihoods summed with these weights, under policy and
    reference, make a DPO that is less drawn to long answers. α = 1 is DPO.
    """
    shared = torch.minimum(mask.sum(-1), other.sum(-1))
    within = mask.cumsum(-1) <= shared[:, None]
    return torch.where(within, 1.0, alpha) * mask
