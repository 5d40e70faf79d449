"""The tests of a problem, and the verdict on a program that is run against them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from backflip.reward.sandbox import bundle
from backflip.reward.sandbox.box import Sandbox
from backflip.reward.sandbox.runner import Cell, Ended, Limits, launch, shown, too_slow

__all__ = ["Checked", "Problem", "check"]

CheckOutcome: TypeAlias = Literal["tested", "timeout", "error"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Tests of one problem, all of which one run of a program must pass."""

    setup: str = ""
    """Code that comes before the tests."""
    tests: tuple[str, ...] = ()
    """Statements that raise an exception where a program is wrong."""
    programs: tuple[Mapping[str, str], ...] = ()
    """``input`` and ``output`` of a program that reads and writes."""
    calls: tuple[Mapping[str, Any], ...] = ()
    """``args`` and ``output`` of calls of ``entry``."""
    entry: str = ""
    """The one name that is taken from the program; empty for the names that tests use."""
    trusted: str = ""
    """A reference solution: its other names are there for tests."""


@dataclass(frozen=True)
class Checked:
    """How many tests a program passed. ``error`` is a fault of the tests or of the sandbox."""

    outcome: CheckOutcome
    passed: int = 0
    total: int = 0
    reason: str = ""


def check(box: Sandbox, program: str, problem: Problem, limits: Limits | None = None) -> Checked:
    """Runs a program's tests in two processes that share two pipes and nothing else.

    One holds the program, and sees what it is called with. The other holds the tests with all that
    they expect; it alone has the pipe of verdicts, and a nonce.
    """
    bounds = limits or Limits()
    nonce = secrets.token_hex(16)
    source = program.encode("utf-8", "replace").decode()
    try:
        job = json.dumps(asdict(problem) | {"nonce": nonce, "source": source})
    except (TypeError, ValueError, RecursionError) as error:
        return Checked("error", reason=f"the tests cannot be handed over: {error}")
    cells = [Cell(bundle.answering()), Cell(bundle.checking(), job.encode(), judges=True)]
    ended = launch(cells, bounds, box.walls)
    return _checked(ended, nonce, bounds)


def _checked(ended: Ended, nonce: str, limits: Limits) -> Checked:
    verdict, end = _verdict(ended, nonce), ended.report.get("end")
    program = next(iter(ended.report.get("before", [])), {})
    late = next((one for one in (ended.report, program) if too_slow(one, limits)), None)
    if end == "wall" or late:
        spent = f"{limits.seconds:g} s of the processor" if late else f"{limits.wall:g} s"
        return Checked("timeout", reason=f"more than {spent}")
    if end in ("memory", "output"):
        return Checked("tested", 0, 1, ended.ran(limits).reason)
    if verdict is None or not verdict["total"]:
        reason = verdict["reason"] if verdict else f"{ended.ran(limits).reason or 'no verdict'}"
        return Checked("error", reason=shown(reason.encode("utf-8", "replace"), 300))
    reason = shown(verdict["reason"].encode("utf-8", "replace"), 300)
    return Checked("tested", verdict["passed"], verdict["total"], reason)


def _verdict(ended: Ended, nonce: str) -> dict[str, Any] | None:
    """The checker's verdict; None where it wrote none."""
    try:
        said = json.loads(bytes(ended.streams["verdict"]))
    except ValueError:
        return None
    return said if isinstance(said, dict) and said.get("nonce") == nonce else None
