"""Learning from records: SFT, reward models and the direct family."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from backflip.algorithms.protocol import Objective
from backflip.data.batches import TensorRecord
from backflip.functional.reductions import Loss
from backflip.train.learner import Learner, Work


@dataclass
class OfflineLoop:
    """Each batch is one step."""

    learner: Learner
    objective: Objective

    def step(self, index: int, batch: TensorRecord) -> dict[str, float]:
        """Learn from one batch; ``index`` is the number of the step."""
        del index
        metrics = self.learner.step(Work(self.objective, batch))
        self.objective = self.objective.adapted(metrics)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        numbers = {
            field.name: value
            for field in dataclasses.fields(self.objective)
            if isinstance(value := getattr(self.objective, field.name), float | int)
        }
        return {"learner": self.learner.state_dict(), "objective": numbers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.objective = dataclasses.replace(self.objective, **state["objective"])


@torch.no_grad()
def assess(
    objective: Objective, model: Any, data: TensorRecord, token_budget: int
) -> dict[str, float]:
    """Losses and metrics of an objective on held-out data of any size, as ``val_…``."""
    sums: dict[str, Loss] = {}
    data = objective.prepare(model, data, token_budget)
    for rows in model.plan(data, token_budget):
        for name, loss in objective.loss(model, data[rows]).metrics.items():
            sums[name] = sums[name] + loss if name in sums else loss
    return {f"val_{name}": loss.mean() for name, loss in sums.items()}
