"""The process between a run of Backflip and a program: starts it in its layers, watches, sweeps.

It runs in an interpreter of its own (``BOOT``), whose start is a part of every program's, so it
imports little and no ``typing``. It reads a job from its standard input, and treats the end of that
input as an order to end: nothing outlives the run that asked, however that ends. Its report goes to
another pipe; the program's output goes straight to whoever asked.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from backflip.reward.sandbox import bubblewrap, kernel, layers, processes

__all__ = ["BOOT", "inside", "main"]

PACKAGE = """
import sys, types
for name, folder in (("backflip", 2), ("backflip.reward", 1), ("backflip.reward.sandbox", 0)):
    made = types.ModuleType(name)
    made.__path__ = [sys.argv[1].rsplit("/", folder)[0]]
    sys.modules[name] = made
from backflip.reward.sandbox import launcher
"""
"""The launcher's first lines, without the package's own first lines, which import more."""
BOOT = PACKAGE + "launcher.main(int(sys.argv[2]))"
START = """
import os
with open(3, "rb") as file: source = file.read()
os.environ.clear()
source = compile(source, "program.py", "exec")
del os, file
exec(source)
"""
"""A program's first lines: it comes by a pipe, for there may be no folder that holds it."""
DIES_WITH_PARENT = 1
PAUSE = 0.05
"""Seconds between two looks at the memory of all processes."""


def main(report: int) -> None:
    """Runs the job on standard input; see ``runner`` for its fields."""
    os.umask(0o022)
    job = marshal.load(sys.stdin.buffer)
    if not job["cells"]:
        from backflip.reward.sandbox.trials import tried

        os.write(report, marshal.dumps({"end": "tried", "missing": tried(job)}))
        return
    end = time.monotonic() + job["limits"]["wall"]
    if "sweep" in job["layers"]:
        kernel.prctl(layers.ADOPTS, 1)
    statuses = _start_all(job, report)
    ended = _wait(job, statuses[-1], end)
    ended["before"] = [_said(one) for one in statuses[:-1]]
    if "sweep" in job["layers"]:
        processes.sweep(os.getpid())
    os.write(report, marshal.dumps(ended))


def _start_all(job: dict, report: int) -> list[int]:
    """Starts the programs, joined by pipes where there are two; returns the files of their ends."""
    statuses: list[int] = []
    links: list[tuple[int, ...]] = [()] if len(job["cells"]) == 1 else _links()
    for cell, link in zip(job["cells"], links, strict=True):
        mine, theirs = os.pipe()
        if os.fork() == 0:
            for file in {report, mine, *statuses, *(one for pair in links for one in pair)} - {
                *link
            }:
                os.close(file)
            theirs = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 200)
            _guarded(theirs, _cell, job, cell, theirs, link)
        os.close(theirs)
        statuses.append(mine)
    for file in (one for pair in links for one in pair):
        os.close(file)
    return statuses


def _links() -> list[tuple[int, ...]]:
    (here, there), (back, forth) = os.pipe(), os.pipe()
    return [(here, forth), (back, there)]


def _said(status: int) -> dict:
    """How a program ended; empty where it has not."""
    os.set_blocking(status, False)
    try:
        said = os.read(status, 65536)
    except BlockingIOError:
        return {}
    return marshal.loads(said) if said else {}


def _wait(job: dict, status: int, end: float) -> dict:
    """How the last program ended, or why it was not let go on."""
    start = time.monotonic()
    poll = select.poll()
    poll.register(status, select.POLLIN)
    poll.register(0, select.POLLIN)
    pause = 0.01
    while True:
        left = end - time.monotonic()
        ready = dict(poll.poll(1000 * max(0.0, min(pause, left))))
        seconds = {"seconds": time.monotonic() - start}
        if status in ready:
            return {"end": "lost"} | seconds | _said(status)
        if 0 in ready:
            return {"end": "asked"} | seconds
        if left <= 0:
            return {"end": "wall"} | seconds
        if processes.memory_below(os.getpid()) > job["limits"]["memory_of_all"]:
            return {"end": "memory"} | seconds
        pause = PAUSE


def _guarded(status: int, function: Callable[..., None], *arguments: object) -> None:
    """Runs a part of the launcher in a forked process, which never returns from here."""
    try:
        function(*arguments)
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        os.write(status, marshal.dumps({"end": "error", "reason": text}))
    finally:
        os._exit(1)


def _cell(job: dict, cell: dict, status: int, link: tuple[int, ...]) -> None:
    """Enters namespaces, then keeps the program as their first process."""
    kernel.prctl(DIES_WITH_PARENT, signal.SIGKILL)
    os.setsid()
    files = _files(cell, link, job["verdict"])
    if job["bubblewrap"] and "namespaces" in job["layers"]:
        bubblewrap.become(job, PACKAGE, files, status)
    if layers.enter_namespaces(job):
        kernel.prctl(DIES_WITH_PARENT, signal.SIGKILL)  # forgotten when the user changes
        first = os.fork()
        if first:
            os.waitpid(first, 0)
            os._exit(0)
    _keep(job, files, status)


def inside(told: int) -> None:
    """As ``_cell``, in namespaces that bubblewrap has made."""
    _keep(*bubblewrap.inside(told))


def _keep(job: dict, files: list[int], status: int) -> None:
    """Starts the program, waits for all that ends meanwhile, and says how the program ended."""
    kernel.prctl(DIES_WITH_PARENT, signal.SIGKILL)
    program = os.fork()
    if program == 0:
        _guarded(status, _become, job, files, status)
    while True:
        pid, code, used = os.wait4(-1, 0)
        if pid == program:
            cpu = used.ru_utime + used.ru_stime
            said = {"end": "exit", "code": os.waitstatus_to_exitcode(code), "cpu": cpu}
            os.write(status, marshal.dumps(said))
            os._exit(0)


def _files(cell: dict, link: tuple[int, ...], verdict: int) -> list[int]:
    """Open files of a program by the number that each will have."""
    files = [_sealed(cell["stdin"]), 1, 2, _sealed(cell["source"]), *link]
    if cell["judges"]:
        files[1] = files[2] = os.open(os.devnull, os.O_WRONLY)
    return [*files, verdict] if cell["judges"] else files


def _sealed(content: bytes) -> int:
    """A file in memory that holds this content and cannot be changed."""
    file = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(file, "wb", closefd=False) as out:
        out.write(content)
    os.lseek(file, 0, os.SEEK_SET)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, 0xF)
    return file


def _become(job: dict, files: list[int], status: int) -> None:
    """Replaces this process by the program's interpreter, in all layers."""
    kernel.prctl(DIES_WITH_PARENT, signal.SIGKILL)
    os.setsid()
    moved = [os.dup2(file, 100 + place) for place, file in enumerate(files)]
    for place, file in enumerate(moved):
        os.dup2(file, place, inheritable=True)
    os.closerange(len(files), status)
    os.closerange(status + 1, 4096)
    os.chdir("/work" if "namespaces" in job["layers"] else "/")
    for one in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(one, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    layers.enter_last(job)
    os.execve(job["interpreter"], [job["interpreter"], *job["flags"], "-c", START], job["env"])
