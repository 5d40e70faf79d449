"""Weights that change as a model learns: those of checkpoints, copies and other processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ["copied", "learnt", "taken_over"]


def learnt(module: nn.Module) -> dict[str, Tensor]:
    """Weights that change: parameters with a gradient, and the buffers that a model saves.

    Tied weights come once. The tensors are the module's own, not copies.
    """
    found: dict[str, Tensor] = {n: p for n, p in module.named_parameters() if p.requires_grad}
    state = cast("Mapping[str, Any]", module.state_dict(keep_vars=True))
    known = dict(module.named_buffers(remove_duplicate=False))  # not scales of quantised weights
    buffers = {name: value for name, value in state.items() if name in known}
    return found | buffers


def copied(module: nn.Module) -> dict[str, Tensor]:
    """A copy of what ``learnt`` names, on the CPU."""
    return {name: t.detach().to("cpu", copy=True) for name, t in learnt(module).items()}


@torch.no_grad()
def taken_over(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Have these weights from now on: all that ``learnt`` names."""
    for name, tensor in learnt(module).items():
        tensor.copy_(weights[name])
