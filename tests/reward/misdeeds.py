"""Checks that misbehave, each in its own way; workers import this file."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def right() -> bool:
    return True


def after(seconds: float, score: float) -> float:
    time.sleep(seconds)
    return score


def length(text: str) -> int:
    return len(text)


def process() -> int:
    return os.getpid()


def sleeps() -> bool:
    time.sleep(100)
    return True


def ignores_everything() -> bool:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(100)
        except BaseException:
            continue


def tower_in_c() -> bool:
    """One operation that holds the interpreter's lock for hours."""
    return (7 ** (10**9)) % 2 == 1


def stops_itself() -> bool:
    os.kill(os.getpid(), signal.SIGSTOP)
    return True


def eats_memory() -> bool:
    held = []
    while True:
        held.append(bytearray(50_000_000))


def maps_memory() -> bool:
    held = [mmap.mmap(-1, 100_000_000) for _ in range(100)]
    return bool(held)


def exits() -> bool:
    sys.exit(0)


def leaves() -> bool:
    os._exit(3)


def kills_itself() -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


def segfault() -> bool:
    return bool(ctypes.string_at(0))


def recurses() -> bool:
    return recurses()


class OddError(Exception):
    def __reduce__(self):
        raise TypeError("no pickle")


def raises_oddly() -> bool:
    raise OddError("x" * 10_000_000)


def closes_pipes() -> bool:
    os.closerange(3, 100)
    return True


def writes_on_pipes() -> bool:
    for number in range(3, 100):
        try:
            os.write(number, b"[1, 2]\n{]\n")
        except OSError:
            continue
    return True


def returns_nothing() -> None:
    return None


def returns_nan() -> float:
    return float("nan")


def returns_much() -> str:
    return "x" * 50_000_000


def prints_garbage() -> bool:
    for _ in range(100):
        sys.stdout.write("\x1b[2J\0" + "garbage" * 1000)
        os.write(1, b"\xff\xfe" * 5000)
        os.write(2, b'{"outcome": "incorrect"}\n')
    return True


def leaves_a_child(file: str) -> bool:
    child = subprocess.Popen(["sleep", "100"])
    Path(file).write_text(str(child.pid))
    time.sleep(100)
    return True
