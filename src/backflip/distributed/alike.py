"""Whether several processes have the same rows and weights; said before these are used."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from backflip.distributed.world import here
from backflip.errors import UserError

__all__ = ["check_rows", "check_weights"]


def check_rows(what: str, rows: Any) -> None:
    """Raises UserError, on every rank, where one has other tokens than rank 0 in a record."""
    if here().size > 1:
        made = hashlib.blake2b(digest_size=16)
        _feed(made, rows)
        _check(what, "Give every process the same files in the same order.", made.hexdigest())


def check_weights(model: nn.Module) -> None:
    """Raises UserError, on every rank, where one has other weights than rank 0."""
    sums = {name: _sum(parameter) for name, parameter in model.named_parameters()}
    _check("weights", "Give every process the same files of the model.", sums)


def _check(what: str, do: str, own: Any) -> None:
    first, *others = here().everyone(own)
    for rank, its in enumerate(others, start=1):
        if its != first:
            raise UserError(f"rank {rank} has other {what} than rank 0. {do}")


def _sum(tensor: Tensor) -> int:
    """Of the bits of a tensor, read as whole numbers: the same in whatever order it is taken."""
    wide = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return int(tensor.detach().contiguous().view(wide[tensor.element_size()]).sum())


def _feed(made: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        made.update(str(tuple(value.shape)).encode())
        made.update(value.detach().cpu().numpy().tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.compare:
                _feed(made, getattr(value, field.name))
    elif isinstance(value, Mapping):
        _feed(made, list(cast("Mapping[Any, Any]", value).items()))
    elif isinstance(value, list | tuple):
        for part in cast("list[Any]", value):
            _feed(made, part)
    else:
        made.update(repr(value).encode())
