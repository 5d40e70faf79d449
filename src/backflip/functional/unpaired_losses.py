"""Losses of policies on single answers that were judged good or bad, per answer.

``ratio`` is log π(y|x)/π_ref(y|x) in nats an answer, so that β·ratio is the implicit reward. Each
loss is a sigmoid or a logistic of how far that reward lies on the wrong side of a shift; the
methods differ in the shift.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor


def kto(
    ratio: Float[Tensor, "*shape"],
    label: Bool[Tensor, "*shape"],
    kl: Float[Tensor, "*shape"],
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, "*shape"]:
    """λ_D·(1 − σ(β(r − z₀))) of a good answer, λ_U·(1 − σ(β(z₀ − r))) of a bad one.

    Ethayarajh et al. (2024, §4.1), with λ_y − v for the loss; r is ``ratio`` and z₀ is ``kl``, in
    nats an answer, through which no gradient flows.
    """
    sign = _sign(label, ratio)
    weight = torch.where(label, desirable_weight, undesirable_weight).to(ratio)
    return weight * torch.sigmoid(-sign * beta * (ratio - kl.detach()))


def mismatched_kl(
    ratio: Float[Tensor, " B"], weight: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """KTO's z₀ = max(0, mean of log π/π_ref over answers to other prompts), in nats an answer.

    A rough and biased stand-in for KL(π‖π_ref): the answers are nobody's samples, and the mean is
    cut at 0 (Ethayarajh et al., 2024, §4.1). Rows of weight w count like w rows.
    """
    weight = torch.ones_like(ratio) if weight is None else weight
    return ((ratio * weight).sum() / weight.sum()).clamp(min=0.0)


def bco(
    ratio: Float[Tensor, "*shape"],
    label: Bool[Tensor, "*shape"],
    *,
    beta: float,
    shift: float = 0.0,
) -> Float[Tensor, "*shape"]:
    """−log σ(±(β·ratio − δ)), + for a good answer: is it good? (Jung et al., 2024, eq. 8).

    ``shift`` is δ, in units of the implicit reward. Summed over a good and a bad answer of one
    prompt it bounds DPO's loss of the pair from above, whatever the shift (theorem 3), and most
    closely where δ is half way between the two rewards (theorem 4).
    """
    return nnf.softplus(-_sign(label, ratio) * (beta * ratio - shift))


def apo_zero_unpaired(
    ratio: Float[Tensor, "*shape"], label: Bool[Tensor, "*shape"], *, beta: float
) -> Float[Tensor, "*shape"]:
    """1 − σ(β·ratio) of a good answer, σ(β·ratio) of a bad one.

    The two halves of APO-zero (D'Oosterlinck et al., 2024), each where its answer is: KTO measured
    from 0 instead of from a KL. Good answers become likelier than under the reference, bad ones
    less likely.
    """
    return torch.sigmoid(-_sign(label, ratio) * beta * ratio)


def _sign(label: Bool[Tensor, "*shape"], like: Tensor) -> Float[Tensor, "*shape"]:
    """1 for good, −1 for bad."""
    return torch.where(label, 1.0, -1.0).to(like)
