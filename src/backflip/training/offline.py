"""Learning from records: SFT, reward models and the direct family."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from backflip.algorithms.base import Objective
from backflip.data.ragged import TensorRecord
from backflip.distributed.reading import read_in_parts
from backflip.functional.reductions import Loss
from backflip.training.learner import Learner, Work


@runtime_checkable
class ReferenceUpdate(Protocol):
    """Something beside the learner that changes while it learns: ``MovingReference``."""

    def before(self, batch: Any, /) -> Any:
        """The batch as the step is to see it."""
        ...

    def after(self, step: int, /) -> None:
        """Called after each step with its number, counted from 1."""
        ...

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


@dataclass
class OfflineLoop:
    """Each batch is one step."""

    learner: Learner
    objective: Objective
    reference_update: ReferenceUpdate | None = None
    """A moving reference, which restates each batch; without one, batches are as they come."""
    beside: Callable[[], Mapping[str, float]] | None = None
    """Further metrics of each step, such as counts of the rows that a stream has left out."""

    def step(self, index: int, batch: TensorRecord) -> dict[str, float]:
        """Learn from one batch; ``index`` is the number of the step, counted from 1."""
        if self.reference_update is not None:
            batch = self.reference_update.before(batch)
        metrics = self.learner.step(Work(self.objective, batch))
        if self.reference_update is not None:
            self.reference_update.after(index)
        self.objective = self.objective.adapted(metrics)
        return metrics | dict(self.beside() if self.beside is not None else {})

    def state_dict(self) -> dict[str, Any]:
        numbers = {
            field.name: value
            for field in dataclasses.fields(self.objective)
            if isinstance(value := getattr(self.objective, field.name), float | int)
        }
        state = {"learner": self.learner.state_dict(), "objective": numbers}
        moved = self.reference_update
        return state | ({} if moved is None else {"referee": moved.state_dict()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.objective = dataclasses.replace(self.objective, **state["objective"])
        if self.reference_update is not None:
            self.reference_update.load_state_dict(state["referee"])


@torch.no_grad()
def assess(
    objective: Objective, model: Any, data: TensorRecord, token_budget: int
) -> dict[str, float]:
    """Losses and metrics of an objective on held-out data of any size, as ``val_…``."""
    sums: dict[str, Loss] = {}
    data = objective.prepare(model, data, token_budget)

    def measured(piece: TensorRecord) -> dict[str, Loss]:
        return dict(objective.loss(model, piece).metrics)

    for _, losses in read_in_parts(model, data, token_budget, measured, told="validation"):
        for name, loss in losses.items():
            sums[name] = sums[name] + loss if name in sums else loss
    return {f"val_{name}": loss.mean() for name, loss in sums.items()}
