"""Batches of a dataset in a reproducible order, which a resumed run goes on with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from backflip.data.batches import ComparisonBatch, DemonstrationBatch, LabelledBatch, TokenSteps
from backflip.data.ragged import Ragged, TensorRecord
from backflip.data.referenced import ReferencedComparisons, ReferencedLabels
from backflip.errors import UserError
from backflip.text import counted

Rows = TypeVar("Rows", bound="TensorRecord | Ragged[Any]")


def _narrow_steps(steps: TokenSteps) -> TokenSteps:
    width = int(steps.answer.lengths.max()) if len(steps) else 0
    return replace(steps, width=width)


def narrowed(data: Any) -> Any:
    """The same rows, with T as long as their own longest answer and no longer."""
    if isinstance(data, DemonstrationBatch):
        steps = _narrow_steps(data.steps)
        return replace(data, steps=steps, mask=data.mask[:, : steps.width])
    if isinstance(data, ComparisonBatch):
        offsets, steps = data.answers.offsets, _narrow_steps(data.answers.values)
        masks = {name: getattr(data, name).values for name in ("mask", "imitated")}
        narrow = {name: Ragged(m[:, : steps.width], offsets) for name, m in masks.items()}
        return replace(data, answers=Ragged(steps, offsets), **narrow)
    if isinstance(data, LabelledBatch):
        steps, other = _narrow_steps(data.steps), _narrow_steps(data.mismatched)
        return replace(
            data,
            steps=steps,
            mask=data.mask[:, : steps.width],
            mismatched=other,
            mismatched_mask=data.mismatched_mask[:, : other.width],
        )
    if isinstance(data, ReferencedComparisons):
        return replace(data, comparisons=narrowed(data.comparisons))
    if isinstance(data, ReferencedLabels):
        return replace(data, labelled=narrowed(data.labelled))
    return data


class Batches(Generic[Rows]):
    """Batches of a dataset, epoch after epoch, in an order that only the seed decides.

    The order of epoch e is a permutation drawn from (seed, e). The position is already behind a
    batch when the batch is handed out: save it with the step's checkpoint, and the resumed run
    goes on with the next batch.

    Args:
        data: the rows.
        size: rows in a batch.
        seed: decides the order of every epoch.
        epochs: passes over the data; None goes on for ever.
        shuffle: False keeps the order of the data.
        drop_last: leave out the last, smaller batch of each epoch.

    """

    def __init__(
        self,
        data: Rows,
        *,
        size: int,
        seed: int = 0,
        epochs: int | None = 1,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        if size < 1:
            raise UserError(f"the batch size is {size}; it must be at least 1")
        if drop_last and len(data) < size:
            raise UserError(
                f"{counted(len(data), 'row does', 'rows do')} not fill one batch of {size}; "
                "lower the batch size"
            )
        if len(data) == 0:
            raise UserError("there are no rows to make batches of")
        self.data = data
        self.size, self.seed, self.epochs = size, seed, epochs
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch, self.position = 0, 0

    @property
    def per_epoch(self) -> int:
        """Batches in one epoch."""
        full = len(self.data) // self.size
        return full if self.drop_last else -(-len(self.data) // self.size)

    def __len__(self) -> int:
        """Batches in all epochs, those handed out included."""
        if self.epochs is None:
            raise TypeError("batches without a number of epochs go on for ever")
        return self.per_epoch * self.epochs

    def order(self, epoch: int) -> Tensor:
        """Row numbers in the order of this epoch."""
        if not self.shuffle:
            return torch.arange(len(self.data))
        generator = torch.Generator().manual_seed(mixed(self.seed, epoch))
        return torch.randperm(len(self.data), generator=generator)

    def __iter__(self) -> Iterator[Rows]:
        epoch, order = -1, torch.arange(0)
        while self.epochs is None or self.epoch < self.epochs:
            if self.position >= self.per_epoch:
                self.epoch, self.position = self.epoch + 1, 0
                continue
            if epoch != self.epoch:  # another iterator may have moved on
                epoch, order = self.epoch, self.order(self.epoch)
            start = self.position * self.size
            self.position += 1
            yield narrowed(cast("Any", self.data)[order[start : start + self.size]])

    def state_dict(self) -> dict[str, int]:
        """Where the next batch stands, and what must be the same to find it there."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where ``state`` was taken. Refuses another seed, batch size or dataset."""
        for key, now in self._identity().items():
            if state.get(key) != now:
                raise UserError(
                    f"cannot resume the data: {key} was {state.get(key)} and is {now} now; "
                    "resume with the same data and settings, or start a new run"
                )
        self.epoch, self.position = state["epoch"], state["position"]

    def _identity(self) -> dict[str, int]:
        return {
            "rows": len(self.data),
            "size": self.size,
            "seed": self.seed,
            "shuffle": int(self.shuffle),
            "drop_last": int(self.drop_last),
        }


def mixed(seed: int, epoch: int) -> int:
    """One number out of two, so that epoch 1 of seed 0 is not epoch 0 of seed 1."""
    digest = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
