"""Records of tensors that share their rows, and rows of different lengths without padding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["Ragged", "TensorRecord", "offsets_of"]

Record = TypeVar("Record", bound="TensorRecord")
Values = TypeVar("Values", bound="Tensor | TensorRecord")


@dataclass(frozen=True)
class TensorRecord:
    """A frozen dataclass of tensors (or of tensor records) that share their first axis, B.

    Indexing by an integer tensor, a mask or a slice picks rows of every field. Fields that are
    plain numbers describe the whole record and are kept.
    """

    def __len__(self) -> int:
        return len(getattr(self, dataclasses.fields(self)[0].name))

    def __getitem__(self: Record, rows: Tensor | slice) -> Record:
        parts = {f.name: _pick(getattr(self, f.name), rows) for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **parts)

    def to(self: Record, device: torch.device | str) -> Record:
        """The same record on another device."""
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return dataclasses.replace(
            self, **{k: v.to(device) if hasattr(v, "to") else v for k, v in parts.items()}
        )

    def sequences(self) -> tuple[Any, Int[Tensor, " S"], Int[Tensor, " B"]]:
        """The S token sequences inside, as TokenSteps; the row of each, and the group of each row.

        Rows of one group share a prompt and are best computed together.
        """
        raise NotImplementedError(f"{type(self).__name__} holds no token sequences")

    def split(self: Record, size: int) -> Iterator[Record]:
        """Consecutive pieces of at most ``size`` rows."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


def _pick(value: Any, rows: Tensor | slice) -> Any:
    ragged: type[Any] = Ragged
    return value[rows] if isinstance(value, (Tensor, TensorRecord, ragged)) else value


@dataclass(frozen=True)
class Ragged(Generic[Values]):
    """Rows of different lengths, end to end: nothing is padded.

    Row i is ``values[offsets[i] : offsets[i + 1]]``. ``values`` is a tensor, or a tensor record
    when each row is itself a list of rows (the K answers of a comparison).
    """

    values: Values
    offsets: Int[Tensor, " B1"]
    """Starts with 0; one longer than the number of rows."""

    @staticmethod
    def of(
        rows: Sequence[Sequence[int] | Sequence[float] | Tensor], dtype: torch.dtype = torch.long
    ) -> Ragged[Any]:
        """Pack lists of numbers."""
        tensors = [torch.as_tensor(row, dtype=dtype) for row in rows]
        lengths = torch.tensor([len(t) for t in tensors], dtype=torch.long)
        values = torch.cat(tensors) if tensors else torch.zeros(0, dtype=dtype)
        return Ragged(values, offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        return self.offsets.diff()

    def row(self, index: int) -> Values:
        values: Any = self.values
        return values[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def rows(self) -> Iterator[Values]:
        for index in range(len(self)):
            yield self.row(index)

    def __getitem__(self, rows: Tensor | slice) -> Ragged[Values]:
        index = torch.arange(len(self), device=self.offsets.device)[rows]
        lengths = self.lengths[index]
        offsets = offsets_of(lengths)
        shift = (self.offsets[index] - offsets[:-1]).repeat_interleave(lengths)
        place = torch.arange(int(offsets[-1]), device=self.offsets.device) + shift
        values: Any = self.values
        return Ragged(values[place], offsets)

    def to(self, device: torch.device | str) -> Ragged[Any]:
        return Ragged(self.values.to(device), self.offsets.to(device))

    def owner(self) -> Int[Tensor, " N"]:
        """For each value, the row that it belongs to."""
        rows = torch.arange(len(self), device=self.offsets.device)
        return rows.repeat_interleave(self.lengths)


def offsets_of(lengths: Int[Tensor, " B"]) -> Int[Tensor, " B1"]:
    """Where each row starts when rows of these lengths lie end to end."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
