"""What both sides measure in the same way. Nothing of Backflip: the peer's Python has none."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

LR = 1e-5
"""Of every optimiser: small, so that no loss runs away in a few steps."""


KL_COEF = 0.05
"""Of GRPO and RLOO."""
RANK, ALPHA = 16, 32
"""Of LoRA, on every linear layer but the head."""
BETA, GAMMA = 0.1, 0.5
"""Of the direct objectives; SimPO's own β is 2."""


CLOCK = "BACKFLIP_BENCH_CLOCK"
"""Environment variable: ``cpu`` counts the processor's seconds, which other programs on a busy
machine do not add to; else seconds pass as on the wall."""


def now() -> float:
    """Seconds, with all work on the device done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() if os.environ.get(CLOCK) == "cpu" else time.perf_counter()


def peak_gb() -> float:
    """The most memory that this process has held: resident, or on the device where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(step: Callable[[Any], Any], batches: Sequence[Any]) -> tuple[list[float], list[Any]]:
    """Seconds of each step but the first, and what every step returned."""
    seconds, returned = [], []
    for batch in batches:
        start = now()
        returned.append(step(batch))
        seconds.append(now() - start)
    return seconds[1:], returned


def cheap_reward(answer: list[int]) -> float:
    """A reward that costs nothing, and that is hardly the same for all answers of any model."""
    return float(sum(answer) % 97)


def score_head(width: int) -> torch.Tensor:
    """One head for the reward models of both sides: N(0, 1/√(width + 1)), (1, width), float32."""
    return torch.randn(1, width, generator=torch.Generator().manual_seed(0)) / (width + 1) ** 0.5


def versions(*names: str) -> dict[str, str]:
    from importlib.metadata import version

    return {"python": sys.version.split()[0]} | {name: version(name) for name in names}


def answer(works: dict[str, Callable[[Any], dict[str, Any]]]) -> None:
    """Do the work named in argv[1] on the workload in argv[2]; the last line printed is JSON."""
    work, path = sys.argv[1:]
    print(json.dumps(works[work](json.loads(Path(path).read_text()))))
