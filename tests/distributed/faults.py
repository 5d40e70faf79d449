"""A run of DPO in which one rank fails: `python -m tests.distributed.faults FAULT RUN [SETTING…]`.

FAULT: raise, kill, kill_once, sleep, stop or disk, in the third step; data or recipe; or none.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from backflip.cli import main as cli
from backflip.distributed.joining import rank_given, several
from backflip.training import driver

STEP = 3


def strike(fault: str) -> None:
    """Whatever happens to rank 1 in a step."""
    again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if fault == "raise":
        raise ZeroDivisionError("planted")
    if fault == "kill" or (fault == "kill_once" and not again):
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "stop":
        os.kill(os.getpid(), signal.SIGTERM)
    if fault == "sleep":
        time.sleep(3600)
    if fault == "disk":  # a file beyond this size is refused, as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def main(fault: str, run: Path, settings: list[str]) -> None:
    step: Any = driver.check_rows
    mine = rank_given() == 1 or not several()

    def checked(what: str, rows: Any) -> None:
        if mine and what.endswith(f" {STEP}"):
            strike(fault)
        step(what, rows)

    driver.check_rows = checked
    if mine and fault == "recipe":
        settings = [*settings, "optimizer.lr=0.5"]
    if mine and fault == "data":
        settings = [s.replace("data.limit=24", "data.limit=23") for s in settings]
    cli.main(["train", "dpo", f"run={run}", *settings])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
