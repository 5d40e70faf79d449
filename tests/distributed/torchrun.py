"""Programs started by torchrun, and their runs beside those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
CLOCKED = ("seconds", "tokens_per_second", "share_", "minutes")
"""Beginnings of names of numbers that a clock decides."""


def environment(**more: str) -> dict[str, str]:
    """One thread a process, and ranks that do not wait long for one another."""
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
        "BACKFLIP_PATIENCE": "60",
        "TOKENIZERS_PARALLELISM": "false",
        **more,
    }


def torchrun(
    program: Sequence[str], *, ranks: int = 2, options: Sequence[str] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """What ``torchrun -m PROGRAM`` ends with. ``more``: variables of the environment."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    start += [f"--nproc-per-node={ranks}", *options, "-m", *program]
    return subprocess.run(
        start, env=environment(**more), text=True, capture_output=True, timeout=300, check=False
    )


def weights(run: Path, name: str = "model") -> dict[str, Any]:
    return load_file(run / name / f"{'adapter_' if name == 'adapter' else ''}model.safetensors")


def metrics(run: Path) -> list[Mapping[str, float]]:
    """Metrics of each step, without those that a clock decides."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {"step": line["step"]}
        | {k: v for k, v in line["metrics"].items() if not k.startswith(CLOCKED)}
        for line in lines
    ]


DIFFERENCES = ("logp_change", "length_reward_correlation", "feature_distance")
"""Numbers made of differences of log-probabilities of whole answers, of some hundred nats each, or
of features in their deviations at the start, which may be small.
"""


def assert_same_run(one: Path, other: Path, *, names: Sequence[str] = ("model",)) -> None:
    """Weights equal to 1e-5, every metric to 1e-5 of its size (or absolutely, below 1).

    What is left when hundreds of nats cancel is compared to 1e-4. Answers are equal, letter by
    letter.
    """
    assert answers(one) == answers(other)
    for name in names:
        mine, its = weights(one, name), weights(other, name)
        assert mine.keys() == its.keys()
        assert max(float((mine[k].float() - its[k].float()).abs().max()) for k in mine) <= 1e-5
    for here, there in zip(metrics(one), metrics(other), strict=True):
        assert here.keys() == there.keys()
        far = {
            name: (value, there[name])
            for name, value in here.items()
            if value != there[name] and not abs(value - there[name]) <= _noise(name, value)
        }
        assert not far, far


def answers(run: Path) -> list[tuple[str, str]]:
    """What was written on the way: prompts with their answers."""
    path = run / "samples.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [(one["prompt"], one["answer"]) for one in map(json.loads, lines)]


def _noise(name: str, value: float) -> float:
    cancelled = name.removeprefix("val_").startswith(DIFFERENCES)
    return (1e-4 if cancelled else 1e-5) * max(1, abs(value))
