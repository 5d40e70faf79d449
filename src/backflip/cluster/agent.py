"""The agent of a rank: starts its process on the machine that it lives on, and hears from it.

A process of its own can be told to stop, killed and read; an actor can only be ended.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

from backflip.distributed import supervisor

__all__ = ["Agent"]

KEY = "RAY_AUTH_"
"""Beginning of variables by which a process shows that it may ask the cluster."""
MOST = 1 << 20
"""Bytes of output that are handed over at once."""


class Agent:
    """One process at a time, and what it prints."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._printed: tuple[IO[bytes], ...] = ()

    def place(self) -> tuple[str, int]:
        """(address of this machine, a port that is free)."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), free.getsockname()[1]

    def start(self, words: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start ``python -m backflip WORDS`` where the agent lives, with more variables."""
        self.end()
        own = {n: v for n, v in os.environ.items() if n[:4] != "RAY_" or n.startswith(KEY)}
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (until end)
        self._printed = (out, err)
        self._process = subprocess.Popen(
            [sys.executable, supervisor.__file__, "0", sys.executable, "-m", "backflip", *words],
            env=own | dict(variables),
            stdin=subprocess.PIPE,
            stdout=os.dup(out.fileno()),
            stderr=os.dup(err.fileno()),
            start_new_session=True,
        )

    def news(self, read: tuple[int, int]) -> tuple[int | None, bytes, bytes]:
        """(exit code, or None while it runs; what it has printed, and complained, behind ``read``
        bytes of each).
        """
        code = self._process.poll() if self._process is not None else None
        printed = zip(self._printed, read, strict=True)
        out, err = (os.pread(file.fileno(), MOST, at) for file, at in printed)
        return code, out, err

    def stop(self) -> None:
        """Ask the process to finish its step, save, and end."""
        self._tell(signal.SIGTERM)

    def end(self) -> None:
        """Kill what is left of it."""
        self._tell(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        for file in self._printed:
            file.close()
        self._printed, self._process = (), None

    def _tell(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)
