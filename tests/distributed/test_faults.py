"""A rank that fails is named, once, and nobody waits beyond the stated limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.torchrun import assert_same_run, environment, torchrun, weights

DPO = ["model=scratch:24x1", "data=demo:comparisons", "data.limit=24", "steps=5", "lora=null"]
DPO += ["sampled_prompts=0", "batch_size=4", "optimizer.lr=1e-3", "checkpoint_every=1"]
SAID = {
    "raise": "rank 1 of 2: planted",
    "kill": "rank 1 of 2 is gone without a word",
    "sleep": "rank 1 of 2 has not come for 15 s",
    "recipe": "rank 1 has another setting optimizer.lr: 0.5, where rank 0 has 0.001",
    "data": "rank 1 has another setting data.limit",
    "rows": "rank 1 has other rows than rank 0",
    "weights": "rank 1 has other weights than rank 0",
    "disk": "rank 1: ",
}
"""What the one message says of each fault."""


def struck(fault: str, run: Path, *, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    options = [f"--max-restarts={restarts}"]
    program = ["tests.distributed.faults", fault, str(run), *DPO]
    return torchrun(program, options=options, BACKFLIP_PATIENCE="15")


@pytest.mark.parametrize("fault", SAID)
def test_a_fault_of_a_rank_is_said_once_and_ends_all(fault: str, tmp_path: Path):
    said = struck(fault, tmp_path / "run")
    assert said.returncode != 0
    told = [line for line in said.stderr.splitlines() if line.startswith("backflip: ")]
    assert len(told) == 1, said.stderr
    assert SAID[fault] in told[0]
    if fault == "disk":
        assert "the disk is full" in told[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks to which nothing happens."""
    run = tmp_path_factory.mktemp("whole") / "run"
    said = struck("none", run)
    assert said.returncode == 0, said.stderr
    return run


def test_a_killed_rank_is_started_again_and_the_run_ends_with_the_same_bits(
    whole: Path, tmp_path: Path
):
    killed = struck("kill_once", tmp_path / "run", restarts=3)
    assert killed.returncode == 0, killed.stderr
    one, other = weights(whole), weights(tmp_path / "run")
    assert all(one[name].equal(other[name]) for name in one)
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.parametrize("ranks", [2, 1])
def test_a_run_that_a_signal_stopped_goes_on_with_another_number_of_ranks(
    ranks: int, whole: Path, tmp_path: Path
):
    run = tmp_path / "run"
    began = start(["tests.distributed.faults", "stop", str(run), *DPO], ranks)
    assert "SIGTERM: stopped after step 3 of 5 and saved" in began.stderr
    pieces = [path.parent.name for path in run.glob("checkpoints/*/pieces/.metadata")]
    assert bool(pieces) == (ranks == 2)
    went_on = start(["backflip", "resume", str(run)], 3 - ranks)
    assert went_on.returncode == 0, went_on.stderr
    assert_same_run(whole, run)


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
