"""The sandbox: layers that this machine gives, found by trying, and programs run in them."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from backflip.errors import UserError
from backflip.reward.sandbox import bubblewrap
from backflip.reward.sandbox.interpreter import Interpreter, candidates
from backflip.reward.sandbox.layers import LAYERS, OPEN
from backflip.reward.sandbox.runner import Cell, Limits, Ran, Walls, launch

__all__ = ["Mode", "Sandbox", "opened", "run", "wrapped"]

Mode: TypeAlias = Literal["strict", "weak"]
"""Whether the sandbox refuses to run where too many layers are missing, or runs with the others."""


@dataclass(frozen=True)
class Sandbox:
    """Programs that nobody trusts run here."""

    walls: Walls
    missing: Mapping[str, str]
    """Why a layer is not entered."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that programs enter."""
        return self.walls.layers

    @property
    def strong(self) -> bool:
        """Whether a program is kept from the machine's files, network and processes."""
        has = set(self.layers)
        kept = {"privileges", "landlock", "seccomp"} <= has or "namespaces" in has
        return kept and {"rights", "limits"} <= has

    def line(self) -> str:
        """One line: the layers that are missing, and what that leaves open."""
        if not self.missing:
            by = " by bubblewrap" if self.walls.bubblewrap else ""
            return f"sandbox: all layers hold ({', '.join(self.layers)}{by})"
        gaps = ", ".join(f"{name} ({why})" for name, why in self.missing.items())
        left = [gap for gap, closers in OPEN.items() if not set(closers) & set(self.layers)]
        said = "; ".join(left) or "nothing that another layer does not close"
        return f"sandbox: without {gaps}; this leaves open: {said}"

    def run(self, program: str, stdin: str = "", limits: Limits | None = None) -> Ran:
        """Runs a Python program that may import the standard library alone."""
        bounds = limits or Limits()
        cell = Cell(program, stdin.encode("utf-8", "replace"))
        return launch([cell], bounds, self.walls).ran(bounds)


def wrapped(interpreter: Interpreter) -> str:
    """The path of ``bwrap`` where the namespaces that it makes hold a program; else empty."""
    path, limits = bubblewrap.found(), Limits()
    if not path:
        return ""
    walls = Walls(interpreter, ("rights", "limits", "namespaces"), path)
    said = launch([Cell(bubblewrap.TRIAL)], limits, walls).ran(limits).stdout.split()
    most = (limits.disk + (64 << 10), limits.files)
    held = len(said) == 3 and all(0 < int(n) <= m for n, m in zip(said[1:], most, strict=True))
    return path if held and said[0] == "True" else ""


@functools.cache
def _found(user: int, off: frozenset[str]) -> Sandbox:
    """The sandbox of this machine and user, all of whose layers have been tried."""
    if sys.platform != "linux":
        raise UserError(
            f"the sandbox needs Linux, and this is {sys.platform}: run answers' programs in a "
            "Linux container or virtual machine"
        )
    reason = "no interpreter was found"
    for interpreter in candidates():
        report = launch([], Limits(), Walls(interpreter)).report
        if "missing" not in report:
            reason = str(report.get("reason", report["end"]))
            continue
        missing = {name: why for name, why in report["missing"].items() if why}
        missing |= dict.fromkeys(off, "off")
        wrapper = "" if "namespaces" in off or "namespaces" not in missing else wrapped(interpreter)
        if wrapper:
            del missing["namespaces"]
        walls = Walls(interpreter, tuple(n for n in LAYERS if n not in missing), wrapper)
        shows = "namespaces" in walls.layers and not wrapper
        if user or shows or "rights" in missing or interpreter.runs_for_all():
            return Sandbox(walls, missing)
        reason = f"{interpreter.path} can be read by root alone"
    raise UserError(
        f"the sandbox could not start ({reason}): install a Python 3.11 or newer that every user "
        "may read, such as /usr/bin/python3"
    )


def opened(mode: Mode = "strict", *, without: Iterable[str] = ()) -> Sandbox:
    """The sandbox of this machine, whose layers are tried at the first call of a process.

    Args:
        mode: ``strict`` raises UserError where too many layers are missing.
        without: layers that are left off.

    Raises UserError on systems other than Linux too.

    """
    found = _found(os.geteuid(), frozenset(without))
    if mode == "strict" and not found.strong:
        raise UserError(
            f"{found.line()}. sandbox=strict needs limits and rights, and either namespaces or "
            "privileges, landlock and seccomp: use a machine that gives them (Linux 5.13 or newer; "
            "containers often forbid them), or say sandbox=weak to run with what is left"
        )
    return found


def run(
    program: str, stdin: str = "", limits: Limits | None = None, *, sandbox: Mode = "strict"
) -> Ran:
    """Runs a Python program in the sandbox of this machine; see ``Sandbox.run``.

    >>> run("print(6 * 7)").stdout.strip()
    '42'
    """
    return opened(sandbox).run(program, stdin, limits)
