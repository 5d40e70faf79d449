"""From logits to a token: pure functions on rows of logits.

A token that may not be drawn has the logit -inf. Every filter leaves at least one token.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEVER = float("-inf")
QUICK_CANDIDATES = 256
BLOCK = 256
"""Tokens whose probabilities are added up together before a draw."""


def tempered(logits: Float[Tensor, "R V"], temperature: float) -> Float[Tensor, "R V"]:
    """Logits over temperature, in float32; for temperature 0 (greedy) they are left alone."""
    logits = logits.float()
    return logits if temperature in (0.0, 1.0) else logits / temperature


def biased(logits: Float[Tensor, "R V"], bias: Mapping[int, float]) -> Float[Tensor, "R V"]:
    """Add a number to the logits of single tokens."""
    if not bias:
        return logits
    tokens = torch.tensor(list(bias), device=logits.device)
    amount = torch.tensor(list(bias.values()), device=logits.device, dtype=logits.dtype)
    return logits.index_add(1, tokens, amount.expand(len(logits), -1).contiguous())


def without(
    logits: Float[Tensor, "R V"], tokens: Int[Tensor, " N"], rows: Bool[Tensor, " R"]
) -> Float[Tensor, "R V"]:
    """Forbid some tokens in some rows: the stop tokens of answers that are too short."""
    banned = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    banned[tokens] = True
    return logits.masked_fill(rows[:, None] & banned, NEVER)


def within_vocabulary(logits: Float[Tensor, "R V"], size: int | None) -> Float[Tensor, "R V"]:
    """Forbid the rows of the head that stand for no token."""
    if size is None or size >= logits.shape[1]:
        return logits
    logits = logits.clone()
    logits[:, size:] = NEVER
    return logits


def top_k(logits: Float[Tensor, "R V"], k: int | None) -> Float[Tensor, "R V"]:
    """Keep the k most likely tokens and those tied with the k-th (Fan et al., 2018)."""
    if k is None or k >= logits.shape[1]:
        return logits
    kth = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < kth, NEVER)


def top_p(logits: Float[Tensor, "R V"], p: float) -> Float[Tensor, "R V"]:
    """Keep the smallest set of most likely tokens with Σ probability ≥ p (Holtzman et al., 2020).

    Tokens tied with the last of the set stay. Sorting a whole vocabulary is slow, so the few most
    likely tokens are tried first.
    """
    if p >= 1:
        return logits
    total = logits.logsumexp(-1, keepdim=True)
    for size in (min(QUICK_CANDIDATES, logits.shape[1]), logits.shape[1]):
        best = logits.topk(size, dim=-1).values
        mass = (best - total).exp().cumsum(-1)
        if size == logits.shape[1] or bool((mass[:, -1] >= p).all()):
            break
    last = (mass < p).sum(-1, keepdim=True).clamp(max=size - 1)
    return logits.masked_fill(logits < best.gather(1, last), NEVER)


def min_p(logits: Float[Tensor, "R V"], p: float) -> Float[Tensor, "R V"]:
    """Keep tokens with probability ≥ p × that of the most likely one (Nguyen et al., 2024)."""
    if p <= 0:
        return logits
    floor = logits.amax(-1, keepdim=True) + torch.tensor(p, device=logits.device).log()
    return logits.masked_fill(logits < floor, NEVER)


def draw(
    logits: Float[Tensor, "R V"], uniform: Float[Tensor, " R"]
) -> tuple[Int[Tensor, " R"], Float[Tensor, " R"]]:
    """The token where the cumulative probability passes u ∈ [0, 1), and its log-probability.

    One number per row decides, so a row's token depends on its own number and logits only. The
    mass is added up ``BLOCK`` tokens at a time, and token by token only where it passes u: a
    running sum over a whole vocabulary takes longer than all else here.
    """
    top, size = logits.amax(-1, keepdim=True), logits.shape[1]
    mass = (logits - top).exp_()
    if size % BLOCK:
        mass = nnf.pad(mass, (0, -size % BLOCK))
    blocks = mass.unflatten(1, (-1, BLOCK))
    reached = blocks.sum(-1).cumsum(-1)
    total = reached[:, -1:]
    target = torch.minimum(uniform[:, None].to(total.dtype) * total, _below(total))
    block = torch.searchsorted(reached, target, right=True)
    before = nnf.pad(reached, (1, 0)).gather(1, block)
    within = blocks.take_along_dim(block[:, :, None], 1)[:, 0].cumsum(-1)
    rest = torch.minimum(target - before, _below(within[:, -1:]))
    tokens = block * BLOCK + torch.searchsorted(within, rest, right=True)
    logp = logits.gather(1, tokens) - top - total.log()
    return tokens[:, 0], logp[:, 0]


def _below(x: Tensor) -> Tensor:
    """The next smaller numbers: a sum that is reached exactly belongs to no token."""
    return torch.nextafter(x, torch.zeros_like(x))


def log_prob(logits: Float[Tensor, "R V"], tokens: Int[Tensor, " R"]) -> Float[Tensor, " R"]:
    """Log softmax(logits) of one token per row, in nats."""
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
