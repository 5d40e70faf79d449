"""A rank that fails is named, once, and nobody waits beyond the stated limit."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.distributed.torchrun import assert_same_run, environment, torchrun, weights

DPO = ["model=scratch:24x1", "data=demo:comparisons", "data.limit=24", "steps=5", "lora=null"]
DPO += ["sampled_prompts=0", "batch_size=2", "optimizer.lr=1e-3", "checkpoint_every=1"]
SUMS = ["token_budget=16", "optimizer.max_norm=1e9"]
"""Two micro-batches a step, whose gradients are added up and not shortened: a sum of two numbers is
the same to the bit whoever takes it, where the norm of all is not.
"""
PATIENCE = 15
"""Seconds that ranks wait for one another."""
SAID = {
    "raise": "rank 1 of 2: planted",
    "kill": "rank 1 of 2 is gone without a word",
    "sleep": f"rank 1 of 2 has not come for {PATIENCE} s",
    "recipe": "rank 1 has another setting optimizer.lr: 0.5, where rank 0 has 0.001",
    "version": "rank 1 has another version of transformers: 4.0, where rank 0 has 5.",
    "data": "rank 1 has another setting data.limit",
    "rows": "rank 1 has other rows than rank 0",
    "weights": "rank 1 has other weights than rank 0",
    "disk": "rank 1: ",
}
"""What the one message says of each fault."""


def struck(fault: str, run: Path, *, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    options = [f"--max-restarts={restarts}"]
    program = ["tests.distributed.faults", fault, str(run), *DPO, *SUMS]
    return torchrun(program, options=options, BACKFLIP_PATIENCE=str(PATIENCE))


@pytest.mark.parametrize("fault", SAID)
def test_a_fault_of_a_rank_is_said_once_and_ends_all(
    fault: str, tmp_path: Path, record_property: Callable[[str, object], None]
):
    said = struck(fault, tmp_path / "run")
    ended = time.time()
    assert said.returncode != 0
    told = [line for line in said.stderr.splitlines() if line.startswith("backflip: ")]
    assert len(told) == 1, said.stderr
    assert SAID[fault] in told[0]
    if fault == "disk":
        assert "the disk is full" in told[0]
    if (when := tmp_path / "struck").is_file():
        seconds = ended - when.stat().st_mtime
        record_property("seconds until all had ended", seconds)
        patient = 2 if fault == "sleep" else 1
        assert seconds < patient * PATIENCE, "nobody waits for those who have ended"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run by one process, to which nothing happens."""
    run = tmp_path_factory.mktemp("alone") / "run"
    said = start(["tests.distributed.faults", "none", str(run), *DPO, *SUMS], 1)
    assert said.returncode == 0, said.stderr
    return run


def test_a_killed_rank_is_started_again_and_the_run_ends_with_the_same_bits(
    alone: Path, tmp_path: Path
):
    """Those of one process."""
    killed = struck("kill_once", tmp_path / "run", restarts=3)
    assert killed.returncode == 0, killed.stderr
    assert_same_bits(alone, tmp_path / "run")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The run by so many ranks, which a signal stopped after three steps."""

    @functools.cache
    def made(ranks: int) -> Path:
        run = tmp_path_factory.mktemp("stopped") / "run"
        said = start(["tests.distributed.faults", "stop", str(run), *DPO, *SUMS], ranks)
        assert "SIGTERM: stopped after step 3 of 5 and saved" in said.stderr
        pieces = [path.parent.name for path in run.glob("checkpoints/*/pieces/.metadata")]
        assert bool(pieces) == (ranks == 2)
        return run

    return made


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 4)])
def test_a_run_that_a_signal_stopped_goes_on_with_another_number_of_ranks(
    before: int, after: int, stopped: Callable[[int], Path], alone: Path, tmp_path: Path
):
    """Two steps more, and it ends with the bits of one process: so the checkpoint was read with
    those that it had. Where gradients of more micro-batches are added up in another order, 1e-7 is
    to be expected.
    """
    run = tmp_path / "run"
    shutil.copytree(stopped(before), run)
    went_on = start(["backflip", "resume", str(run)], after)
    assert went_on.returncode == 0, went_on.stderr
    assert_same_bits(alone, run)


def assert_same_bits(one: Path, other: Path) -> None:
    mine, its = weights(one), weights(other)
    assert all(mine[name].equal(its[name]) for name in mine)
    assert_same_run(one, other)


def start(program: list[str], ranks: int) -> subprocess.CompletedProcess[str]:
    if ranks > 1:
        return torchrun(program, ranks=ranks)
    return subprocess.run(
        [sys.executable, "-m", *program],
        env=environment(),
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
