"""Shaping: additions to a score before anybody learns from it, per answer. Lengths count tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def missing_eos(
    scores: Float[Tensor, " B"], finished: Bool[Tensor, " B"], *, score: float = -1.0
) -> Float[Tensor, " B"]:
    """A fixed score for an answer that did not end by itself (Stiennon et al., 2020; −1 there).

    It replaces the score: subtracting from it would still let a high one pay for rambling.
    """
    return torch.where(finished, scores, score)


def length_penalty(
    scores: Float[Tensor, " B"], lengths: Int[Tensor, " B"], *, per_token: float
) -> Float[Tensor, " B"]:
    """Score − ``per_token`` · length."""
    return scores - per_token * lengths


def overlong(lengths: Int[Tensor, " B"], *, limit: int, buffer: int) -> Float[Tensor, " B"]:
    """The addition to a score: 0 up to limit − buffer, then down to −1 at the limit.

    DAPO's soft overlong punishment (Yu et al., 2025, eq. 13).
    """
    return -((lengths - (limit - buffer)).float() / max(buffer, 1)).clamp(0.0, 1.0)


def clip_scores(scores: Float[Tensor, " B"], *, limit: float) -> Float[Tensor, " B"]:
    """Scores held within ±``limit``, so that no single answer rules the batch."""
    return scores.clamp(-limit, limit)
