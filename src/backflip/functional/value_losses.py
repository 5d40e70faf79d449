"""Losses of value functions, per choice and not reduced."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def squared_error(
    values: Float[Tensor, "*shape"], returns: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """½ (V − R)²."""
    return 0.5 * (values - returns) ** 2


def clipped_value_loss(
    values: Float[Tensor, "*shape"],
    values_old: Float[Tensor, "*shape"],
    returns: Float[Tensor, "*shape"],
    *,
    eps: float = 0.2,
) -> Float[Tensor, "*shape"]:
    """½ max((V − R)², (V_clip − R)²) where V_clip is V held within ``eps`` of V_old.

    OpenAI's PPO (Dhariwal et al., 2017; Ziegler et al., 2019): V gains nothing by moving further
    than ``eps`` in one batch. ``eps`` is in the units of the returns.
    """
    clipped = values_old + (values - values_old).clamp(-eps, eps)
    return torch.maximum(squared_error(values, returns), squared_error(clipped, returns))
