"""A program run in the sandbox, and how it ended."""

from __future__ import annotations

import marshal
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from backflip.reward.sandbox import launcher
from backflip.reward.sandbox.interpreter import ENVIRONMENT, FLAGS, Interpreter

__all__ = ["Cell", "Ended", "Limits", "Ran", "Walls", "launch", "shown", "too_slow"]

FIRST_USER = 0x70000000
"""Users that own nothing, one for each program that root runs."""
GRACE = 10.0
"""Seconds beyond the wall clock after which a launcher that says nothing is ended from outside."""
SLACK = 128 << 20
"""Bytes of the launcher's own processes, which count in the memory of all."""

RanOutcome: TypeAlias = Literal["finished", "failed", "timeout", "memory", "output", "error"]
"""Ends of a program: exit code 0; another code, or a signal; too long; more memory, or more output,
than it may; and a sandbox that could not run it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one program and all that it starts."""

    seconds: float = 5.0
    """Of the processor, for each process."""
    wall: float = 15.0
    """Seconds of the clock, in all."""
    memory: int = 512 << 20
    """Bytes: of addresses, for each process, and of resident memory, in all."""
    processes: int = 16
    """Processes and threads, in all."""
    output: int = 64 << 10
    """Bytes of each of standard output and standard error."""
    disk: int = 16 << 20
    """Bytes of all files together, where there are namespaces; else of one file."""
    files: int = 512
    """Files and folders, in all."""


@dataclass(frozen=True)
class Ran:
    """The end of a program, with its output. An exit code is a claim of the program's own."""

    stdout: str
    stderr: str
    outcome: RanOutcome
    seconds: float
    """Of the clock, from its start to its end."""
    code: int | None = None
    """Exit code, or minus the signal that ended it."""
    reason: str = ""


@dataclass(frozen=True)
class Cell:
    """One program of a job."""

    source: str
    stdin: bytes = b""
    judges: bool = False
    """It has the pipe of verdicts in place of standard output and error."""


@dataclass
class Ended:
    """What a job left: bytes by stream, and the launcher's report."""

    streams: dict[str, bytearray] = field(default_factory=dict[str, bytearray])
    report: dict[str, Any] = field(default_factory=dict[str, Any])

    def ran(self, limits: Limits) -> Ran:
        """The end of a job of one program."""
        outcome, reason = _outcome(self.report, limits)
        out, err = (shown(self.streams[name], limits.output) for name in ("stdout", "stderr"))
        seconds, code = self.report.get("seconds", 0.0), self.report.get("code")
        return Ran(out, err, outcome, seconds, code, reason)


def shown(text: bytes | bytearray, most: int) -> str:
    """Output as text that is safe to print: no control characters but tabs and ends of lines."""
    decoded = bytes(text[:most]).decode("utf-8", "replace").replace("\r\n", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "\ufffd", decoded)


def too_slow(report: Mapping[str, Any], limits: Limits) -> bool:
    """Whether the kernel ended a program for its time of the processor."""
    code = report.get("code")
    slow = code == -signal.SIGKILL and report.get("cpu", 0.0) >= limits.seconds
    return slow or code == -signal.SIGXCPU


def _outcome(report: Mapping[str, Any], limits: Limits) -> tuple[RanOutcome, str]:
    end, code = report.get("end", "silent"), report.get("code", 0)
    ends: dict[str, tuple[RanOutcome, str]] = {
        "wall": ("timeout", f"more than {limits.wall:g} s"),
        "memory": ("memory", f"more than {limits.memory >> 20} MB"),
        "output": ("output", f"more than {limits.output} bytes of output"),
    }
    if end != "exit":
        return ends.get(end, ("error", report.get("reason", f"the launcher's report: {end}")))
    if too_slow(report, limits):
        return "timeout", f"more than {limits.seconds:g} s of the processor"
    if code == 0:
        return "finished", ""
    return "failed", f"exit code {code}" if code > 0 else f"ended by signal {-code}"


@dataclass(frozen=True)
class Walls:
    """The layers that programs run in, and the interpreter that runs them."""

    interpreter: Interpreter
    layers: tuple[str, ...] = ()
    bubblewrap: str = ""
    """The path of ``bwrap`` where it makes the namespaces."""


def launch(cells: list[Cell], limits: Limits, walls: Walls) -> Ended:
    """Runs one program, or two joined by pipes of which the last ends the job."""
    interpreter = walls.interpreter
    (verdict, judge), (report, reporter) = os.pipe(), os.pipe()
    job = {
        "cells": [asdict(one) | {"source": one.source.encode("utf-8", "replace")} for one in cells],
        "limits": asdict(limits) | {"memory_of_all": limits.memory + SLACK},
        "layers": list(walls.layers),
        "bubblewrap": walls.bubblewrap,
        "interpreter": interpreter.path,
        "flags": list(FLAGS),
        "env": dict(ENVIRONMENT),
        "library": interpreter.library,
        "mounts": interpreter.mounts(),
        "hidden": interpreter.hidden(),
        "files": interpreter.files(),
        "user": FIRST_USER,
        "verdict": judge,
    }
    folder = str(Path(launcher.__file__).parent)
    command = [interpreter.path, "-I", "-S", "-B", "-c", launcher.BOOT, folder, str(reporter)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(judge, reporter),
            env={},
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(judge)
        os.close(reporter)
    with process, open(verdict, "rb") as said, open(report, "rb") as ended:
        streams: dict[Any, str] = {process.stdout: "stdout", process.stderr: "stderr"}
        return _followed(
            process, marshal.dumps(job, 2), streams | {said: "verdict", ended: "report"}, limits
        )


def _followed(
    process: subprocess.Popen[bytes], job: bytes, files: dict[Any, str], limits: Limits
) -> Ended:
    """Reads all streams up to their bounds; ends the launcher where one holds more."""
    ended = Ended({name: bytearray() for name in files.values()})
    assert process.stdin is not None
    end = time.monotonic() + limits.wall + GRACE
    over = False
    try:
        process.stdin.write(job)
        process.stdin.flush()
        with selectors.DefaultSelector() as waiting:
            for file in files:
                waiting.register(file, selectors.EVENT_READ)
            while waiting.get_map() and time.monotonic() < end:
                for key, _ in waiting.select(1.0):
                    read = os.read(key.fd, 65536)
                    held = ended.streams[files[key.fileobj]]
                    held += read[: limits.output + 1 - len(held)]
                    if not read:
                        waiting.unregister(key.fileobj)
                    elif len(held) > limits.output and not over:
                        over = True
                        process.stdin.close()
    except BrokenPipeError:
        pass  # it has ended before it has read its job; its report is empty
    finally:
        if not process.stdin.closed:
            process.stdin.close()
        _end(process)
    text = ended.streams["report"]
    ended.report = marshal.loads(text) if text else {"end": "silent"}
    if over:
        ended.report["end"] = "output"
    return ended


def _end(process: subprocess.Popen[bytes]) -> None:
    """Waits for the launcher's own end, after its sweep, and forces it where it does not come."""
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
