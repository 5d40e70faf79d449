"""AdamW with moments in 8 bits, through bitsandbytes (Dettmers et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from backflip.errors import UserError
from backflip.models.quantized import INSTALL, installed

__all__ = ["adamw_8bit"]

SMALLEST = 4096
"""Numbers of a tensor from which on its moments are held in 8 bits."""


def adamw_8bit(
    groups: Sequence[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer:
    """AdamW whose moments are quantised in blocks of 256 numbers; small tensors keep 32 bits.

    Raises:
        UserError: bitsandbytes is missing, or has no such kernel for the device of the weights.

    """
    if not installed():
        raise UserError(f"optimizer.state_bits=8 needs bitsandbytes: {INSTALL}.")
    from bitsandbytes.optim.adamw import AdamW8bit

    devices = {p.device for group in groups for p in group["params"]}
    for device in devices:
        _try(AdamW8bit, device)
    return AdamW8bit(list(groups), lr=lr, betas=betas, eps=eps, min_8bit_size=SMALLEST)


def _try(optimizer: Any, device: torch.device) -> None:
    """One step of a small tensor: the library finds out only then what it lacks."""
    weight = nn.Parameter(torch.zeros(SMALLEST, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        optimizer([weight], lr=1e-3).step()
    except Exception as error:  # whatever a library without a kernel for this device stumbles over
        raise UserError(
            f"optimizer.state_bits=8: bitsandbytes has no AdamW in 8 bits for {device.type} here "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). Set "
            "optimizer.state_bits=32."
        ) from error
