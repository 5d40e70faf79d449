"""Small online runs, and the tokens of all that they draw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from backflip.distributed.world import here
from backflip.training.online import OnlineLoop
from tests.recipes.tiny import tiny_model

ONLINE: dict[str, Any] = {
    "model": "scratch:48x2",
    "token_budget": 300,
    "checkpoint_every": 2,
    "optimizer": {"lr": 1e-3},
    "data": {"source": "task:sorting", "limit": 16, "held_out": 0.25},
    "sampling": {"max_tokens": 8},
    "prompts_per_step": 3,
    "validation_prompts": 3,
}
GPT2: dict[str, Any] = ONLINE | {
    "model": "@gpt2",
    "steps": 10,
    "eval_every": 5,
    "lora": None,
    "optimizer": {"lr": 1e-4},
    "answers_per_prompt": 4,
    "minibatches": 2,
    "reward": {"name": "length", "most": 5},
}
"""GRPO on a GPT-2 of two layers, ``@gpt2`` in the folder of the runs.

At a rate of 1e-3 weights of one process and of two are 4.5e-5 apart after its 20 optimiser steps,
at this one 1.2e-7: Adam makes whole steps of gradients that are little but rounding.
"""


def gpt2_in(folder: Path) -> Path:
    return tiny_model(folder / "gpt2", family="gpt2")


@contextmanager
def drawn_into(folder: Path) -> Iterator[None]:
    """Inside, each rank writes prompts and answers of its steps into a file of its own there."""
    step = OnlineLoop.step

    def written(self: OnlineLoop, index: int, prompts: Any) -> dict[str, float]:
        metrics = step(self, index, prompts)
        assert self.last is not None
        steps = self.last.experience.scored.rollouts.steps
        rows = [steps.sequence(row) for row in range(len(steps))]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"drawn-{here().rank}.jsonl").open("a") as file:
            file.write(json.dumps(rows) + "\n")
        return metrics

    with patch.object(OnlineLoop, "step", written):
        yield


def drawn(run: Path, rank: int = 0) -> list[list[list[int]]]:
    """Tokens of each step that a rank learnt from: of prompts with their answers."""
    lines = (run / f"drawn-{rank}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
