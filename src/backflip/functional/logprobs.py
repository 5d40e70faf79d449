"""Log-probabilities from hidden states, without ever holding all the logits.

A vocabulary of 50,000 makes one row of logits 80 times as large as a hidden state of 600. So the
head runs over a few hundred rows at a time, forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS = 256
"""Rows of logits held at once: 50 MB for a vocabulary of 49,152 in float32."""
KEPT = 1 << 28
"""Bytes of probabilities that a forward pass may leave for the backward pass: up to here they are
not computed again where the head learns, which saves one of its four products."""


def linear_logp(
    hidden: Float[Tensor, "M D"],
    weight: Float[Tensor, "V D"],
    labels: Int[Tensor, " M"],
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    bias: Float[Tensor, " V"] | None = None,
    entropy: bool = True,
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """The log softmax(z)[label] and the entropy of softmax(z), both in nats, float32.

    z = cap(hidden · weightᵀ + bias) / temperature, where cap(x) = softcap·tanh(x / softcap).
    Gradients flow to ``hidden``, ``weight`` and ``bias`` through the log-probabilities only; the
    entropy is a number to watch (zeros where ``entropy`` is False, which saves a reading of the
    logits). ``linear_entropy`` is the entropy to optimise.
    """
    function: Any = _LinearLogp
    return function.apply(hidden, weight, bias, labels, 1.0 / temperature, softcap, entropy)


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
        z = torch.nn.functional.linear(rows, weight, bias)
        logp = _shaped(z, 1.0 / temperature, softcap).log_softmax(-1)
        return -(logp.exp() * logp).sum(-1)

    twice: Any = torch.utils.checkpoint
    parts: list[Tensor] = [
        twice.checkpoint(chunk, hidden[piece], weight, use_reentrant=False)
        for piece in _chunks(hidden)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0)


def _chunks(x: Tensor) -> list[slice]:
    """Where pieces of at most ``ROWS`` rows begin and end; none of an empty tensor."""
    return [slice(start, min(start + ROWS, len(x))) for start in range(0, len(x), ROWS)]


def _shaped(z: Float[Tensor, "R V"], scale: float, softcap: float | None) -> Float[Tensor, "R V"]:
    """Logits from products: in float32, capped, over the temperature."""
    z = z.float()
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    return z * scale if scale != 1.0 else z


class _Logits:
    """The logits of one chunk after the other, all in the same memory.

    Asking the system for 50 MB anew, and having it filled with zeros, takes about as long as all
    that is done with the numbers but the product itself.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, scale: float, softcap: float | None
    ) -> None:
        self.weight, self.bias, self.scale, self.softcap = weight, bias, scale, softcap
        self.products: Tensor | None = None
        self.beside: Tensor | None = None

    def of(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R V"]:
        if self.products is None:
            self.products = rows.new_empty(len(rows), len(self.weight))
        z = self.products[: len(rows)]
        torch.mm(rows, self.weight.t(), out=z)
        if self.bias is not None:
            z += self.bias
        return _shaped(z, self.scale, self.softcap)

    def less(self, z: Float[Tensor, "R V"], row: Float[Tensor, "R 1"]) -> Float[Tensor, "R V"]:
        """The difference z − row, in memory of its own that the next chunk uses again."""
        if self.beside is None:
            self.beside = torch.empty_like(z)
        return torch.sub(z, row, out=self.beside[: len(z)])

    def slope(
        self,
        p: Float[Tensor, "R V"],
        mass: Float[Tensor, " R"] | float,
        z: Tensor,
        label: Tensor,
        weight: Float[Tensor, " R"],
    ) -> Float[Tensor, "R V"]:
        """``weight``·∂logp/∂(product), overwriting ``p`` = ``mass``·softmax(z)."""
        weight = weight * self.scale
        slope = p.mul_(-(weight / mass)[:, None])
        slope.scatter_add_(1, label[:, None], weight[:, None])
        if self.softcap is not None:
            slope *= 1 - (z / (self.scale * self.softcap)).square()
        return slope.to(self.weight.dtype)


def _room(hidden: Tensor, weight: Tensor) -> Float[Tensor, "M V"] | None:
    """Memory for the probabilities of all rows, unless they are more than ``KEPT``."""
    if 4 * len(hidden) * len(weight) > KEPT:
        return None
    return hidden.new_empty(len(hidden), len(weight), dtype=torch.float32)


def _mean(
    z: Float[Tensor, "R V"], p: Float[Tensor, "R V"], mass: Float[Tensor, " R"]
) -> Float[Tensor, " R"]:
    """Σ softmax(z)·z, for ``p`` = ``mass``·softmax(z); log Σ exp(z) less this is the entropy."""
    return torch.bmm(p[:, None], z[:, :, None])[:, 0, 0] / mass


class _LinearLogp(torch.autograd.Function):
    """∂logp/∂z = onehot(label) − softmax(z): known in the forward pass, up to the factor that
    arrives from above. So where only ``hidden`` needs a gradient (LoRA, frozen head), the rows of
    ∂logp/∂hidden are made there and the logits are never computed again. Where the head learns,
    softmax(z) is kept as long as it is small.
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
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        head_learns = weight.requires_grad or (bias is not None and bias.requires_grad)
        ahead = hidden.requires_grad and not head_learns
        kept = _room(hidden, weight) if head_learns and softcap is None else None
        logits = _Logits(weight, bias, scale, softcap)
        logp = hidden.new_zeros(len(hidden), dtype=torch.float32)
        log_mass, masses = torch.zeros_like(logp), torch.zeros_like(logp)
        entropy = torch.zeros_like(logp)
        slopes = torch.empty_like(hidden) if ahead else None
        for piece in _chunks(hidden):
            z, label = logits.of(hidden[piece]), labels[piece]
            chosen, top = z.gather(1, label[:, None])[:, 0], z.amax(1, keepdim=True)
            if kept is not None:
                p = torch.sub(z, top, out=kept[piece]).exp_()
            else:  # Where z is not read again, its own memory will do.
                p = (logits.less(z, top) if ahead or with_entropy else z.sub_(top)).exp_()
            mass = p.sum(1)
            masses[piece] = mass
            log_mass[piece] = mass.log() + top[:, 0]
            logp[piece] = chosen - log_mass[piece]
            if with_entropy:
                entropy[piece] = log_mass[piece] - _mean(z, p, mass)
            if slopes is not None:
                slope = logits.slope(p, mass, z, label, torch.ones_like(mass))
                torch.mm(slope, weight, out=slopes[piece])
        ctx.save_for_backward(hidden, weight, bias, labels, log_mass, slopes)
        ctx.scale, ctx.softcap = scale, softcap
        ctx.kept = None if kept is None else (kept, masses)
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, _, _, slopes = ctx.saved_tensors
        grad, none = grads[0], (None,) * 4
        if slopes is not None:
            return slopes * grad[:, None].to(slopes.dtype), None, None, *none
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        new = torch.empty_like if len(hidden) else torch.zeros_like
        d_weight = new(weight) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
        for number, (piece, slope) in enumerate(_slopes(ctx, grad)):
            if d_hidden is not None:
                torch.mm(slope, weight, out=d_hidden[piece])
            if d_weight is not None:
                d_weight.addmm_(slope.t(), hidden[piece], beta=min(number, 1))
            if d_bias is not None:
                d_bias += slope.sum(0)
        return d_hidden, d_weight, d_bias, *none


def _slopes(ctx: Any, grad: Float[Tensor, " M"]) -> Iterator[tuple[slice, Float[Tensor, "R V"]]]:
    """``grad``·∂logp/∂(product), all rows at once where they were kept, or piece by piece.

    What was kept is used up: a second backward pass computes it again.
    """
    hidden, weight, bias, labels, log_mass, _ = ctx.saved_tensors
    logits = _Logits(weight, bias, ctx.scale, ctx.softcap)
    kept, ctx.kept = ctx.kept, None
    if kept is not None:
        p, mass = kept
        yield slice(None), logits.slope(p, mass, p, labels, grad)
        return
    for piece in _chunks(hidden):
        z, shift = logits.of(hidden[piece]), log_mass[piece, None]
        p = (z.sub_(shift) if ctx.softcap is None else logits.less(z, shift)).exp_()
        yield piece, logits.slope(p, 1.0, z, labels[piece], grad[piece])
