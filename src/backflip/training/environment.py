"""Versions and machine of a run, on which the last bits of its result depend."""

from __future__ import annotations

import json
import os
import platform
import warnings
from importlib import metadata
from typing import Any

import torch

from backflip.training.run_folder import RunFolder

DECIDE_BITS = ("torch", "machine", "device", "threads")
"""Parts of the environment on which the last bits of a result depend."""


def note_environment(run: RunFolder) -> None:
    """Write environment.json, or warn where the run began in another environment."""
    now = environment()
    if not run.environment_path.is_file():
        run.write_json(run.environment_path.name, now)
        return
    before = json.loads(run.environment_path.read_text(encoding="utf-8"))
    changed = [
        f"{name} was {before[name]} and is {now[name]} now"
        for name in DECIDE_BITS
        if name in before and before[name] != now[name]
    ]
    if changed:
        warnings.warn(
            f"{run.path}: {'; '.join(changed)}. The run goes on, but not to the same bits.",
            stacklevel=2,
        )


def environment() -> dict[str, Any]:
    """Versions and machine: what a later reader needs to judge a result."""
    cuda = torch.cuda.is_available()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "backflip": _version("backflip"),
        "torch": str(torch.__version__),
        "transformers": _version("transformers"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory / 1e9, 1),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
