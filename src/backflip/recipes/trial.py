"""A trial of a recipe: a few steps in a process of their own, measured in time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from backflip.errors import UserError
from backflip.monitor.log import read_lines
from backflip.progress import task


def measured(recipe: Path, folder: Path, steps: int | None) -> tuple[float, float]:
    """(seconds, highest resident bytes) of training by a recipe in a process of its own.

    ``steps`` of the trial in all, where it is known.
    """
    began = time.monotonic()
    with (folder / "said").open("w+", encoding="utf-8") as log:
        command = [sys.executable, "-m", "backflip", "train", str(recipe)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            with task("measuring a few steps", steps, "steps", position=lambda: _taken(folder)):
                _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        lines = log.read().strip().splitlines()
    if process.returncode != 0:
        said_last = [line for line in lines if line.startswith("backflip: ")] or lines
        last = said_last[-1].removeprefix("backflip: ") if lines else "it said nothing"
        if process.returncode == -9:
            last = "it was killed, most likely for want of memory"
        raise UserError(f"the measurement failed: {last}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.monotonic() - began, float(used.ru_maxrss * unit)


def _taken(folder: Path) -> int:
    """Steps that the trial has taken so far, over all of its stages."""
    files = folder.rglob("metrics.jsonl")
    return sum(line["step"] > 0 for path in files for line in read_lines(path))
