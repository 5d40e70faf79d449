"""Process reward models: a reward model that is read at the end of every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backflip.data.batches import TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.ragged import Ragged
from backflip.data.solution_batches import SolutionBatch
from backflip.data.steps import SEPARATOR, StepFinder
from backflip.distributed.reading import read_in_parts
from backflip.functional.process import goodness
from backflip.models.heads import RewardModel
from backflip.models.load import load_config
from backflip.models.save import load_reward_model, save_reward_model

__all__ = ["ProcessModel", "is_process_model", "load_process_model"]


@dataclass(frozen=True)
class ProcessModel:
    """P(good) of every step of an answer."""

    model: RewardModel
    """One head for good, or three for bad, neutral and good."""
    separator: str = SEPARATOR
    """Text between two steps."""
    neutral: float = 1.0
    """P(good) that a neutral step counts for."""

    def finder(self, template: ChatTemplate) -> StepFinder:
        """The finder of steps in tokens of a template's tokenizer."""
        return StepFinder(template, self.separator)

    def estimates(
        self, steps: TokenSteps, ends: Sequence[Sequence[int]], token_budget: int = 4096
    ) -> list[list[float]]:
        """P(good) of each step of each answer, given where they end; without a graph."""
        batch = SolutionBatch(
            steps=steps,
            ends=Ragged.of([list(row) for row in ends]),
            labels=Ragged(torch.zeros(sum(map(len, ends)), 3), Ragged.of(list(ends)).offsets),
            number=Ragged.of([range(len(row)) for row in ends]),
            whole=torch.ones(len(steps), dtype=torch.bool),
            weight=torch.ones(len(steps)),
        )
        return self.of_batch(batch, token_budget)

    def of_batch(self, batch: SolutionBatch, token_budget: int = 4096) -> list[list[float]]:
        """The same at the steps of a batch."""
        found: list[list[float]] = [[] for _ in range(len(batch))]

        def read(piece: SolutionBatch) -> Any:
            return self.model.raw_scores_at(piece.steps, piece.ends.owner(), piece.ends.values)

        pieces = read_in_parts(
            self.model, batch, token_budget, read, told="judging steps", unit="answers"
        )
        for rows, logits in pieces:
            flat = goodness(logits, neutral=self.neutral).tolist()
            for row in rows.tolist():
                size = int(batch.ends.lengths[row])
                found[row], flat = flat[:size], flat[size:]
        return found

    def save(self, tokenizer: Any, folder: Path, *, dtype: torch.dtype | None = None) -> None:
        """Write ``folder``/model as a reward model is written: a sequence classifier."""
        said = {"separator": self.separator, "neutral": self.neutral}
        save_reward_model(self.model, tokenizer, folder, dtype=dtype, process=said)


def is_process_model(name: str) -> bool:
    """Whether a folder, a run or a hub name is a process reward model of ours."""
    marks = getattr(load_config(name, of=("process_reward_model",)), "backflip", None)
    return isinstance(marks, dict) and "process" in marks


def load_process_model(
    name: str, *, precision: str = "auto", template: str | None = None
) -> ProcessModel:
    """A process reward model of ours. Raises UserError for anything else."""
    model = load_reward_model(name, precision=precision, template=template, steps=True)
    said = model.trunk.config.backflip["process"]
    return ProcessModel(model, said["separator"], said["neutral"])
