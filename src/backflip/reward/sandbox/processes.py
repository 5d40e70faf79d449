"""Processes below another: how much memory they hold, and their end."""

from __future__ import annotations

import os
import signal
import time

__all__ = ["below", "memory_below", "sweep"]

PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 5.0
"""Seconds after which a sweep gives up on processes that the kernel cannot end."""


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it has ended, or the kernel keeps no such list
    return found


def _parents() -> dict[int, list[int]]:
    """Children by parent, read from all processes: for kernels without lists of children."""
    found: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rsplit(b")", 1)[1].split()[1])
        except OSError:
            continue
        found.setdefault(parent, []).append(int(name))
    return found


def below(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have started."""
    known = None if os.path.exists(f"/proc/{pid}/task/{pid}/children") else _parents()
    found, left = list[int](), [pid]
    while left:
        one = left.pop()
        children = _children(one) if known is None else known.get(one, [])
        found += children
        left += children
    return found


def memory_below(pid: int) -> int:
    """Bytes of memory that the processes below one hold; shared pages count for each."""
    total = 0
    for one in below(pid):
        try:
            with open(f"/proc/{one}/statm") as file:
                fields = file.read().split()
        except OSError:
            continue
        total += int(fields[1]) * PAGE if len(fields) > 1 else 0
    return total


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return  # it has ended


def sweep(pid: int) -> None:
    """Ends all processes below one that adopts orphans, until none is left."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for one in below(pid):
            _kill(one)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)
