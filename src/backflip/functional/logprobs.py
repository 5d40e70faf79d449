"""Log-probabilities from hidden states, without ever holding all the logits.

A vocabulary of 50,000 makes one row of logits 80 times as large as a hidden state of 600. So the
head runs over a few hundred rows at a time, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS = 256
"""Rows of logits held at once: 50 MB for a vocabulary of 49,152 in float32."""


def linear_logp(
    hidden: Float[Tensor, "M D"],
    weight: Float[Tensor, "V D"],
    labels: Int[Tensor, " M"],
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    bias: Float[Tensor, " V"] | None = None,
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """The log softmax(z)[label] and the entropy of softmax(z), both in nats, float32.

    z = cap(hidden · weightᵀ + bias) / temperature, where cap(x) = softcap·tanh(x / softcap).
    Gradients flow to ``hidden``, ``weight`` and ``bias`` through the log-probabilities only; the
    entropy is a number to watch. ``linear_entropy`` is the entropy to optimise.
    """
    function: Any = _LinearLogp
    return function.apply(hidden, weight, bias, labels, 1.0 / temperature, softcap)


def linear_entropy(
    hidden: Float[Tensor, "M D"],
    weight: Float[Tensor, "V D"],
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    bias: Float[Tensor, " V"] | None = None,
) -> Float[Tensor, " M"]:
    """Entropy of softmax(z) in nats with its gradient, in chunks that are computed twice."""
    import torch.utils.checkpoint

    def chunk(rows: Tensor, weight: Tensor) -> Tensor:
        logp = _logits(rows, weight, bias, 1.0 / temperature, softcap).log_softmax(-1)
        return -(logp.exp() * logp).sum(-1)

    twice: Any = torch.utils.checkpoint
    parts: list[Tensor] = [
        twice.checkpoint(chunk, rows, weight, use_reentrant=False) for rows in _chunks(hidden)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0)


def _chunks(x: Tensor) -> list[Tensor]:
    """Pieces of at most ``ROWS`` rows; none of an empty tensor."""
    return [x[start : start + ROWS] for start in range(0, len(x), ROWS)]


def _logits(
    rows: Tensor, weight: Tensor, bias: Tensor | None, scale: float, softcap: float | None
) -> Float[Tensor, "R V"]:
    z = torch.nn.functional.linear(rows, weight, bias).float()
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    return z * scale if scale != 1.0 else z


class _LinearLogp(torch.autograd.Function):
    """∂logp/∂z = onehot(label) − softmax(z): known in the forward pass, up to the factor that
    arrives from above. So where only ``hidden`` needs a gradient (LoRA, frozen head), the rows of
    ∂logp/∂hidden are made there and the logits are never computed again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        scale: float,
        softcap: float | None,
    ) -> tuple[Tensor, Tensor]:
        head_learns = weight.requires_grad or (bias is not None and bias.requires_grad)
        ahead = hidden.requires_grad and not head_learns
        logp, entropy, slopes = list[Tensor](), list[Tensor](), list[Tensor]()
        for rows, label in zip(_chunks(hidden), _chunks(labels), strict=True):
            z = _logits(rows, weight, bias, scale, softcap)
            chosen = z.gather(1, label[:, None])[:, 0]
            top = z.max(1, keepdim=True).values
            # entropy = log Σ exp(z) − Σ p·z, from one pass of exp.
            p = (z - top).exp_()
            mass = p.sum(1, keepdim=True)
            p /= mass
            log_mass = (mass.log() + top)[:, 0]
            logp.append(chosen - log_mass)
            entropy.append(log_mass - (p * z).sum(1))
            if ahead:
                slope = _dlogp_dlogits(p, z, label, scale, softcap)
                slopes.append(slope.to(weight.dtype) @ weight)
        ctx.save_for_backward(hidden, weight, bias, labels, torch.cat(slopes) if slopes else None)
        ctx.scale, ctx.softcap = scale, softcap
        out = torch.cat(logp) if logp else hidden.new_zeros(0, dtype=torch.float32)
        ent = torch.cat(entropy) if entropy else hidden.new_zeros(0, dtype=torch.float32)
        ctx.mark_non_differentiable(ent)
        return out, ent

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels, slopes = ctx.saved_tensors
        grad = grads[0]
        if slopes is not None:
            return slopes * grad[:, None].to(slopes.dtype), None, None, None, None, None
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
        for start in range(0, len(hidden), ROWS):
            piece = slice(start, start + ROWS)
            z = _logits(hidden[piece], weight, bias, ctx.scale, ctx.softcap)
            slope = _dlogp_dlogits(z.softmax(1), z, labels[piece], ctx.scale, ctx.softcap)
            slope = (slope * grad[piece, None]).to(weight.dtype)
            if d_hidden is not None:
                torch.mm(slope, weight, out=d_hidden[piece])
            if d_weight is not None:
                d_weight.addmm_(slope.t(), hidden[piece])
            if d_bias is not None:
                d_bias += slope.sum(0)
        return d_hidden, d_weight, d_bias, None, None, None


def _dlogp_dlogits(
    p: Float[Tensor, "R V"],
    z: Float[Tensor, "R V"],
    label: Int[Tensor, " R"],
    scale: float,
    softcap: float | None,
) -> Float[Tensor, "R V"]:
    """∂logp/∂(raw logits), overwriting ``p`` = softmax(z)."""
    slope = p.neg_()
    slope.scatter_add_(1, label[:, None], torch.ones_like(slope[:, :1]))
    if softcap is not None:
        slope *= 1 - (z / (scale * softcap)).square()
    return slope.mul_(scale) if scale != 1.0 else slope
