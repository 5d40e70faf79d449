"""Weights of choices that a sampler drew from a policy that is not quite the learner's.

The log-ratio is log π_old − log μ: the learner's before the update, and the sampler's. No weight
has a gradient. ``held`` marks the choices whose weight is not the ratio: cut, or dropped (0).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.functional.kl import MAX_LOG_RATIO
from backflip.functional.policy_variants import DIVERGENCES


class Corrected(NamedTuple):
    """Weights of choices, and which of them were held."""

    weight: Float[Tensor, "B T"]
    held: Bool[Tensor, "B T"]


def sampler_log_ratio(
    logp_old: Float[Tensor, "B T"], logp_sampler: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Log π_old − log μ of each choice, held within ±20; 0 elsewhere."""
    apart = (logp_old - logp_sampler).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.where(mask, apart, 0.0).detach()


def truncated(log_w: Float[Tensor, "B T"], *, cap: float = 2.0) -> Corrected:
    """min(w, cap): truncated importance sampling (Yao et al., 2025)."""
    w = log_w.exp()
    return Corrected(w.clamp(max=cap), w > cap)


def icepop(log_w: Float[Tensor, "B T"], *, low: float = 0.5, high: float = 5.0) -> Corrected:
    """W between ``low`` and ``high``, else 0 (IcePop: Ling Team, 2025)."""
    w = log_w.exp()
    held = (w < low) | (w > high)
    return Corrected(torch.where(held, 0.0, w), held)


def sequence_mask(
    log_w: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, cap: float = 3.0
) -> Corrected:
    """The product of an answer's w on each of its choices; 0 above ``cap`` (TRL 1.16's mode).

    Unbiased but for the answers that are dropped; the longer answers are, the more it drops.
    """
    total = torch.where(mask, log_w, 0.0).sum(-1, keepdim=True)
    w = total.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp().expand_as(log_w)
    return Corrected(torch.where(w > cap, 0.0, w), w > cap)


def geometric_mask(
    log_w: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    low: float = 0.99,
    high: float = 1.001,
) -> Corrected:
    """W of each choice in answers whose geometric mean lies within the bounds, else 0 (verl)."""
    length = mask.sum(-1, keepdim=True).clamp(min=1)
    mean = (torch.where(mask, log_w, 0.0).sum(-1, keepdim=True) / length).exp().expand_as(log_w)
    held = (mean < low) | (mean > high)
    return Corrected(torch.where(held, 0.0, log_w.exp()), held)


def gated(
    logp_old: Float[Tensor, "B T"],
    logp_sampler: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    delta: float,
    divergence: str,
    whole_answers: bool,
) -> Corrected:
    """W where a binary divergence of π_old from μ is at most ``delta``, else 0 (OpenRLHF 0.11).

    ``divergence``: tv or kl, of each choice, or with ``whole_answers`` its mean over the answer.
    """
    apart = torch.where(mask, DIVERGENCES[divergence](logp_old, logp_sampler), 0.0)
    if whole_answers:
        length = mask.sum(-1, keepdim=True).clamp(min=1)
        apart = (apart.sum(-1, keepdim=True) / length).expand_as(logp_old)
    held = apart > delta
    w = sampler_log_ratio(logp_old, logp_sampler, mask).exp()
    return Corrected(torch.where(held, 0.0, w), held)


def effective_share(weight: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> float:
    """(Σw)² / (n·Σw²) over the n choices: 1 where all weigh the same, 1/n where one has it all.

    Kish's effective sample size as a share; 0 where nothing has any weight.
    """
    w = weight[mask].double()
    squares = float(w.square().sum())
    return float(w.sum().square()) / (len(w) * squares) if squares else 0.0
