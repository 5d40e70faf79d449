"""Models laid out over ranks by FSDP2, and their whole weights.

Every layer is a group of its own; embedding, norms and heads are the root's. Gradients are summed
over the ranks, never averaged: losses are divided by counts of the whole batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from backflip.distributed.alike import check_weights
from backflip.distributed.layout import Mirror, is_sharded
from backflip.errors import UserError

__all__ = ["shard"]

ENTRIES = ("evaluate", "features", "values", "raw_scores", "raw_scores_at", "read")
"""Methods that read weights: for FSDP each of them is a forward pass of the root."""


def shard(model: Any, mesh: Any) -> Any:
    """``model`` itself, its parameters cut over the ranks of ``mesh``.

    A plain copy without memory stays beside it as ``mirror``, for whoever needs whole weights.

    Raises:
        UserError: the model is read in a way that ranks cannot share.

    """
    if is_sharded(model):
        return model
    _check(model)
    check_weights(model)
    skeleton = _skeleton(model)
    model.mirror = Mirror([model], [skeleton], once=_fits(model))
    model.trunk.model.mirror = replace(model.mirror, part="trunk.model")
    for layer in layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The factor alone is PREMUL_SUM, which gloo refuses; neither averages by default.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    for name in ENTRIES:
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)
    return model


def layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a transformer: the entries of the ``ModuleList`` with most parameters."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return iter(max(lists, key=lambda found: sum(p.numel() for p in found.parameters())))


def _check(model: Any) -> None:
    config = model.trunk.config
    if model.trunk.way == "alone":
        raise UserError(
            f"{config.model_type} is read row by row, which several processes cannot share. "
            "Train it in one process."
        )
    if model.trunk.rotary:
        raise UserError(
            f"{config.model_type} changes its rope with the length of a row, so that rows are read "
            "in as many passes as it takes, which several processes cannot share. Train it in one "
            "process."
        )
    if model.trunk.experts:
        raise UserError(
            f"{config.model_type} is a mixture of experts, which is not supported by several "
            "processes: each would send its rows to other experts. Train it in one process."
        )


def _fits(model: Any) -> bool:
    """Whether whole gradients take at most an eighth of the device."""
    device = model.trunk.device
    if device.type != "cuda":
        return True
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return 8 * gradients <= torch.cuda.get_device_properties(device).total_memory


def _skeleton(model: nn.Module) -> nn.Module:
    """A copy whose parameters take no memory; tied ones stay tied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    return copy.deepcopy(model, memo)
