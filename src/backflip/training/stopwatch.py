"""The parts of a step by the time that they take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping

WAITING = "waiting"


class Stopwatch:
    """Seconds of named parts, without those in which the thread that drives the step stood still.

    It stands still while it waits: for a server, for worker processes, or for a processor that
    other programs hold. Those seconds are ``waiting``, whatever part they fall into.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Generator[None]:
        """Count the block's seconds as part ``name``."""
        wall, own = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            wall, own = time.perf_counter() - wall, time.thread_time() - own
            own = min(own, wall)
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            self.seconds[WAITING] = self.seconds.get(WAITING, 0.0) + wall - own

    def shares(self) -> Mapping[str, float]:
        """Shares of all seconds, by part; they add up to 1. Empty before the first part."""
        total = sum(self.seconds.values())
        return {name: spent / total for name, spent in self.seconds.items()} if total else {}
