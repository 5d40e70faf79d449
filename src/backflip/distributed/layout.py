"""Weights that may be laid out over ranks: each of them whole, and a model as a plain one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from backflip.distributed.world import here

__all__ = ["Mirror", "is_sharded", "laid_out", "plain", "reduces", "whole"]

M = TypeVar("M")


@dataclass(frozen=True)
class Mirror:
    """A plain copy of a sharded model, which has no memory until it is asked for."""

    model: list[nn.Module]
    """The sharded model, in a list so that nobody takes it for a part."""
    copy: list[nn.Module]
    part: str = ""
    """Name of the part that is asked for; empty, the whole."""
    once: bool = True
    """Whether gradients may lie whole on each rank until the last micro-batch of a step."""
    frozen: set[str] = field(default_factory=set[str])
    """Whose copies have the weights that never change: of ``all``, or of the ``leader``."""

    @torch.no_grad()
    def filled(self, *, only_leader: bool = False) -> Any:
        """The copy with the weights of now: every rank takes part.

        ``only_leader``: rank 0 alone keeps them; the others get the copy without weights.
        """
        kept, own = here().leads or not only_leader, dict(self.copy[0].named_parameters())
        there = "all" in self.frozen or (only_leader and "leader" in self.frozen)
        made: dict[nn.Parameter, nn.Parameter] = {}
        for name, parameter in self.model[0].named_parameters():
            if there and not parameter.requires_grad:
                continue
            full = whole(parameter.detach())
            if kept and own[name].is_meta:
                made[own[name]] = nn.Parameter(full.clone(), parameter.requires_grad)
            elif kept:
                own[name].copy_(full)
        _replace(self.copy[0], made)
        self.frozen.add("leader" if only_leader else "all")
        for name, buffer in self.model[0].named_buffers():
            self.copy[0].get_buffer(name).copy_(buffer)
        return attrgetter(self.part)(self.copy[0]) if self.part else self.copy[0]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, which may lie on several ranks: then every rank must ask."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def laid_out(tensor: Any, like: Tensor) -> Tensor:
    """A whole tensor, or one in pieces on the disk, as ``like`` lies: a part on each rank."""
    if not isinstance(tensor, Tensor):
        return tensor.like(like)
    mesh = getattr(like, "device_mesh", None)
    if mesh is None or hasattr(tensor, "device_mesh") or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    placed: Any = like
    there = tensor.to(placed.device)  # every rank has it: nothing is sent
    return distribute_tensor(there, mesh, placed.placements, src_data_rank=None)


def is_sharded(model: nn.Module) -> bool:
    """Whether parameters of a model lie on several ranks."""
    return hasattr(model, "mirror")


def reduces(model: Any, *, last: bool) -> None:
    """Say whether the next backward pass adds the gradients of all ranks up: the last one does.

    The others do too where whole gradients would not fit; a model that is not sharded does not.
    """
    if is_sharded(model):
        model.set_requires_gradient_sync(last or not model.mirror.once)


def plain(model: M, *, only_leader: bool = False) -> M:
    """A model whose parameters are plain tensors: itself, or the mirror of a sharded one."""
    mirror = getattr(model, "mirror", None)
    return model if mirror is None else mirror.filled(only_leader=only_leader)


def _replace(model: nn.Module, made: Mapping[nn.Parameter, nn.Parameter]) -> None:
    """Put other parameters in the place of those of a model; tied ones stay tied."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter in made:
                setattr(module, name, made[parameter])
