"""Workers that check answers: whatever a check does, the run goes on and says what became of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.pool import Check, Pool
from tests.reward import misdeeds


@pytest.fixture
def pool():
    made = Pool(2, 0.5)
    yield made
    made.close()


def check(name: str, *args: object, seconds: float = 1.0) -> Check:
    return Check(getattr(misdeeds, name), args, seconds=seconds)


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"


def test_verdicts_come_in_the_order_of_the_checks(pool: Pool):
    """The slow ones begin first."""
    checks = [check("after", 0.2 * (n % 2 == 0), n / 10) for n in range(9)]
    assert [one.score for one in pool.make(checks)] == [n / 10 for n in range(9)]


MISDEEDS = {
    "sleeps": ("timeout", "longer than 0.5 s"),
    "ignores_everything": ("timeout", "longer than 0.5 s"),
    "tower_in_c": ("timeout", "longer than 0.5 s"),
    "stops_itself": ("timeout", "longer than 0.5 s"),
    "eats_memory": ("error", "more memory than its worker may have"),
    "maps_memory": ("error", "memory|Cannot allocate"),
    "exits": ("error", "SystemExit: 0"),
    "leaves": ("error", "exit code 3"),
    "kills_itself": ("error", "signal 9"),
    "segfault": ("error", "signal 11"),
    "recurses": ("error", "RecursionError"),
    "raises_oddly": ("error", "Odd"),
    "closes_pipes": ("error", "pipe|exit code"),
    "writes_on_pipes": ("error", "pipe"),
    "returns_nothing": ("error", "None, which is no finite number"),
    "returns_nan": ("error", "nan, which is no finite number"),
    "returns_much": ("error", "no finite number"),
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, list[Verdict]]:
    """Each misdeed with its neighbours on both sides, all of them in one call."""
    made = Pool(2, 0.5)
    names = [name for misdeed in MISDEEDS for name in ("right", misdeed)]
    said = made.make([check(name, seconds=0.5) for name in [*names, "right"]])
    made.close()
    return {misdeed: said[2 * n : 2 * n + 3] for n, misdeed in enumerate(MISDEEDS)}


@pytest.mark.parametrize("name", MISDEEDS)
def test_a_misdeed_costs_its_own_answer_only(verdicts: dict[str, list[Verdict]], name: str):
    first, verdict, last = verdicts[name]
    outcome, reason = MISDEEDS[name]
    assert (first.outcome, last.outcome) == ("correct", "correct")
    assert (verdict.outcome, verdict.score) == (outcome, None)
    assert re.search(reason, verdict.reason)


def test_what_a_check_prints_changes_nothing(pool: Pool, capfd):
    verdicts = pool.make([check("prints_garbage", seconds=20.0), check("right")])
    assert [one.outcome for one in verdicts] == ["correct", "correct"]
    assert capfd.readouterr() == ("", "")


def test_large_answers_go_through(pool: Pool):
    """Ten megabytes, more than a pipe holds."""
    assert pool.make([check("length", "x" * 10_000_000, seconds=30.0)])[0].score == 1e7


def test_what_cannot_be_sent_is_an_error(pool: Pool):
    verdict, other = pool.make([Check(lambda: 1.0), check("right")])
    assert verdict.outcome == "error"
    assert "cannot be sent" in verdict.reason
    assert other.outcome == "correct"


def test_processes_live_on_from_call_to_call_and_are_replaced_when_they_die(pool: Pool):
    ids = {one.score for one in pool.make([check("process")] * 6)}
    assert ids == {one.score for one in pool.make([check("process")] * 6)} or len(ids) == 1
    os.kill(int(min(ids)), signal.SIGKILL)
    time.sleep(0.05)
    assert pool.make([check("right")] * 4)[3].outcome == "correct"


def test_children_of_a_check_end_with_its_worker(pool: Pool, tmp_path: Path):
    verdict, *_ = pool.make([check("leaves_a_child", str(tmp_path / "child"))])
    assert verdict.outcome == "timeout"
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        if gone(child):
            return
        time.sleep(0.02)
    pytest.fail("the child lives on")


def test_workers_end_with_the_process_that_asked_them(tmp_path: Path):
    """Even where it is killed while one is at work, which no handler sees."""
    code = (
        "import os, signal, threading; from tests.reward import misdeeds\n"
        "from backflip.reward.verifiers.pool import Check, Pool\n"
        "pool = Pool(2)\n"
        "print(*(int(v.score) for v in pool.make([Check(misdeeds.process)] * 2)), flush=True)\n"
        "threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()\n"
        "pool.make([Check(misdeeds.sleeps, seconds=0.1)])\n"
    )
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env
    )
    assert done.returncode == -signal.SIGKILL
    for worker in {int(word) for word in done.stdout.split()}:
        for _ in range(200):
            if gone(worker):
                break
            time.sleep(0.02)
        assert gone(worker)
