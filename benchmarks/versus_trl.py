"""Backflip against TRL: the same work, one process after the other, into RESULTS.md.

    python benchmarks/versus_trl.py --peer-python .venv-trl/bin/python

The peer's Python holds TRL and what it needs; this one holds Backflip. ``--works`` and
``--batches`` make a short run; results of works that are not run again are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import report
from timing import CLOCK
from workloads import build, hh_source

Side = dict[str, Any]
"""What one side measured."""
HERE = Path(__file__).resolve().parent
WORKS = (
    "reward_model", "sft", "sampling", "ppo", "dpo", "dpo_cached", "kto", "orpo", "simpo",
    "grpo", "rloo", "generation", "vine",
)  # fmt: skip
OWN = {"vine": "vine_alone"}
"""Works that TRL has not, and the work of ours that they are measured against."""
BATCHES = 6
SAME_LOSS = {"float32": 1e-3, "bfloat16": 5e-2}
"""How far the losses of the two sides may be apart, for the work to count as equal: that of the
first batch, and ten times as far that of the second, after a step of either optimiser."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with TRL")
    parser.add_argument("--model", default="smollm2", help="a folder, a hub name, or smollm2")
    parser.add_argument("--data", default=hh_source(), help="comparisons: a file or a hub name")
    parser.add_argument("--batches", type=int, default=BATCHES, help="timed, after a warm-up")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what to count")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of RESULTS.md")
    given = parser.parse_args()
    os.environ[CLOCK] = given.clock
    rows = list(
        compare(given.works, given.model, given.data, peer=given.peer_python, batches=given.batches)
    )
    report.write(given.out, report.merged(given.out, rows))


def compare(
    works: Sequence[str], model: str, data: str, *, peer: str, batches: int = BATCHES
) -> Iterator[report.Row]:
    """A row for each work, as it is done; ours and the peer's turn by turn, never both at once."""
    from backflip.models.load import resolve

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workload.json"
        path.write_text(json.dumps(build(resolve(model), data, batches=batches)))
        for work in works:
            sides = {
                "ours": run(sys.executable, "ours.py", work, path),
                "peer": run(sys.executable, "ours.py", OWN[work], path)
                if work in OWN
                else run(peer, "peer.py", work, path),
            }
            yield row_of(work, sides, batches=batches)


def row_of(
    work: str, sides: dict[str, Side], *, batches: int, dtype: str = "float32", name: str = ""
) -> report.Row:
    """Of the timed batches alone, if both sides did the same. ``name``: in the table."""
    check_equal(work, sides, dtype)
    sides = {side: without_warmups(found, batches) for side, found in sides.items()}
    row = report.row(name or report.NAMES[work], sides, dtype)
    print(report.line(row), flush=True)
    return row


class OutOfMemoryError(SystemExit):
    """A side did not fit into the device."""


def run(python: str, script: str, work: str, workload: Path, *, limit: float | None = None) -> Side:
    """What one side measured, in a process of its own that has ``limit`` seconds."""
    command = [python, str(HERE / script), work, str(workload)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise SystemExit(f"{script} {work} was not done after {limit:.0f} s") from error
    if done.returncode:
        full = "OutOfMemoryError" in done.stderr
        raise (OutOfMemoryError if full else SystemExit)(
            f"{script} {work} failed:\n{done.stderr[-3000:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def without_warmups(side: Side, batches: int) -> Side:
    """Without the warm-ups, which stand before the timed batches."""
    of_batches = ("seconds", "tokens", "operations", "learning")
    return side | {name: side[name][-batches:] for name in of_batches if name in side}


def check_equal(work: str, sides: dict[str, Side], dtype: str) -> None:
    """Same weights and rows: the same loss at the first batch, and the same tokens."""
    if "peer" not in sides:
        return
    ours, peer = sides["ours"], sides["peer"]
    if work != "sampling" and ours["tokens"] != peer["tokens"]:
        raise SystemExit(f"{work}: tokens differ: {ours['tokens']} and {peer['tokens']}")
    if "losses" not in ours:
        return
    for step, room in ((0, SAME_LOSS[dtype]), (1, 10 * SAME_LOSS[dtype])):
        a, b = ours["losses"][step], peer["losses"][step]
        print(f"{work}: loss of batch {step + 1}: {a:.6f}, TRL {b:.6f}")
        if abs(a - b) > room:
            raise SystemExit(f"{work}: these differ by {abs(a - b):.2g}: not the same work")


if __name__ == "__main__":
    main()
