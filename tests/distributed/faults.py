"""A run of DPO in which one rank fails: `python -m tests.distributed.faults FAULT RUN [SETTING…]`.

FAULT: raise, kill, kill_once, sleep, stop or disk, in the third step; recipe, version, data, rows
or weights, before the first; or none.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from backflip.cli import main as cli
from backflip.distributed.joining import rank_given, several
from backflip.models import scratch
from backflip.recipes import alike
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


def other_rows(other: bool) -> list[str]:
    """A file of the same name on every rank, with another last row on one."""
    rows = [{"prompt": f"{n}?", "chosen": f"{n}.", "rejected": "no"} for n in range(16)]
    if other:
        rows[-1] |= {"chosen": "perhaps"}
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return ["data=rows.jsonl"]


def other_weights(other: bool) -> list[str]:
    """A model of the same name on every rank, with another number in it on one."""
    shutil.copytree(scratch.find("scratch:24x1"), "mine")
    if other:
        tensors = load_file("mine/model.safetensors")
        tensors["model.norm.weight"][0] += 1e-6
        save_file(tensors, "mine/model.safetensors", metadata={"format": "pt"})
    return ["model=mine"]


def main(fault: str, run: Path, settings: list[str]) -> None:
    step: Any = driver.check_rows
    mine = rank_given() == 1 or not several()

    def checked(what: str, rows: Any) -> None:
        if mine and what.endswith(f" {STEP}"):
            (run.parent / "struck").touch()
            strike(fault)
        step(what, rows)

    driver.check_rows = checked
    if mine and fault == "recipe":
        settings = [*settings, "optimizer.lr=0.5"]
    if mine and fault == "version":
        own = alike.environment()
        alike.environment = lambda: own | {"transformers": "4.0"}
    if mine and fault == "data":
        settings = [s.replace("data.limit=24", "data.limit=23") for s in settings]
    if fault in ("rows", "weights"):
        folder = run.parent / f"rank{rank_given()}"
        folder.mkdir()
        os.chdir(folder)
        settings += other_rows(mine) if fault == "rows" else other_weights(mine)
    cli.main(["train", "dpo", f"run={run}", *settings])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
