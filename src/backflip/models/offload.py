"""A frozen model in CPU memory, which is on its device only while it reads."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def offload(model: M) -> M:
    """Move a frozen model to CPU memory; inside ``model.resident()`` it is back where it was.

    The reference of a policy reads whole batches, when there are no gradients: it takes the room
    that they have in the backward pass, and costs one transfer of its weights a batch. Nothing is
    transferred back. On CUDA the copy in CPU memory is pinned.
    """
    home = next(model.parameters()).device
    for tensor in _tensors(model):
        held = tensor.data.cpu()
        tensor.data = held.pin_memory() if home.type == "cuda" else held
    object.__setattr__(model, "resident", partial(_resident, model, home))
    return model


@contextmanager
def _resident(model: nn.Module, home: torch.device) -> Generator[None]:
    tensors = _tensors(model)
    held = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(home, non_blocking=True)
        yield
    finally:
        for tensor, data in zip(tensors, held, strict=True):
            tensor.data = data


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers, tied ones once."""
    return [*itertools.chain(model.parameters(), model.buffers())]
