"""The sandbox runs honest programs as a bare interpreter does, and says how each ended."""

from __future__ import annotations

import os

import pytest

from backflip.errors import UserError
from backflip.reward.sandbox import box
from backflip.reward.sandbox.box import opened, run, wrapped
from backflip.reward.sandbox.interpreter import candidates
from backflip.reward.sandbox.layers import LAYERS
from backflip.reward.sandbox.runner import Cell, Ended, Limits, Walls
from tests.reward.witness import sandbox_here

FOUND = sandbox_here()
ENDS = [
    ("print(input() + '!')", "hé", "finished", "hé!\n"),
    ("raise SystemExit(3)", "", "failed", ""),
    ("import os; os.kill(os.getpid(), 11)", "", "failed", ""),
    (
        "import os; os.write(1, b'\\xff\\0\\x1b[2Ja\\r\\nb\\tc')",
        "",
        "finished",
        "\ufffd\ufffd\ufffd[2Ja\nb\tc",
    ),
]


@pytest.mark.parametrize(("program", "given", "outcome", "out"), ENDS)
def test_an_honest_program_ends_as_it_would_outside(
    program: str, given: str, outcome: str, out: str
):
    ran = FOUND.run(program, given)
    assert (ran.outcome, ran.stdout) == (outcome, out), ran


def test_the_environment_is_empty_and_packages_are_not_there():
    ran = FOUND.run("import os, sys; print(dict(os.environ)); import numpy")
    assert ran.stdout == "{}\n"
    assert "ModuleNotFoundError" in ran.stderr


def test_limits_end_a_program_and_say_which():
    limits = Limits(seconds=1.0, wall=30.0, output=1000)
    assert FOUND.run("while True: pass", limits=limits).reason == "more than 1 s of the processor"
    assert FOUND.run("import time; time.sleep(99)", limits=Limits(wall=0.5)).outcome == "timeout"
    ran = FOUND.run("while True: print('x' * 99)", limits=limits)
    assert (ran.outcome, len(ran.stdout)) == ("output", 1000)


def test_strict_refuses_where_neither_namespaces_nor_landlock_and_seccomp_hold():
    with pytest.raises(
        UserError, match=r"without .*landlock \(off\).* open: files .* sandbox=weak"
    ):
        opened(without={"namespaces", "landlock"})
    with pytest.raises(UserError, match="without limits"):
        opened(without={"limits"})
    weak = opened("weak", without=set(LAYERS) - {"rights"})
    assert weak.run("print(1)").stdout == "1\n"


def test_another_system_than_linux_is_refused_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(box.sys, "platform", "darwin")
    with pytest.raises(UserError, match="needs Linux, and this is darwin"):
        box._found.__wrapped__(0, frozenset())


@pytest.mark.skipif(not any(map(wrapped, candidates())), reason="bubblewrap makes none here")
def test_bubblewrap_makes_the_namespaces_where_nobody_else_may(monkeypatch: pytest.MonkeyPatch):
    honest = box.launch

    def hardened(cells: list[Cell], limits: Limits, walls: Walls) -> Ended:
        ended = honest(cells, limits, walls)
        if not cells:
            ended.report["missing"]["namespaces"] = "forbidden"
        return ended

    monkeypatch.setattr(box, "launch", hardened)
    found = box._found.__wrapped__(os.geteuid(), frozenset())
    assert found.line().endswith("by bubblewrap)")
    assert found.run("import os; print(sorted(os.listdir('/work')))").stdout == "[]\n"


@pytest.mark.skipif(not FOUND.strong, reason=FOUND.line())
def test_the_function_for_tools_needs_no_settings():
    assert run("print(6 * 7)").stdout == "42\n"
