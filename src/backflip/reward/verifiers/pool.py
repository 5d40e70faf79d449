"""A pool of worker processes that make checks: one at a time each, killed and replaced at a limit.

A check that hangs, eats memory, ends its process or prints without end costs its own answer's score
and nothing else. Workers are fresh interpreters, not forks, so that no lock of a thread is copied.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from backflip.progress import task
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.worker import LENGTH

__all__ = ["Check", "Pool", "pool_of"]

LOADING = 300.0
"""Seconds in which a worker must have started and imported what a check needs."""
LONGEST_REPLY = 1 << 16
SERVE = "from backflip.reward.verifiers.worker import main; main({}, {}, {})"


@dataclass(frozen=True)
class Check:
    """A call to be made in a worker, to which its callable and arguments are sent by pickle."""

    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 10.0
    """Time limit, without the time in which the worker waited for a processor."""
    before: tuple[tuple[Callable[..., Any], str], ...] = ()
    """Functions, each with its argument, that are called before its time begins: imports."""

    def here(self) -> Verdict:
        """The verdict, made in this process without a limit: an error is one answer's."""
        try:
            return Verdict.of(self.call(*self.args, **self.named))
        except (Exception, SystemExit) as error:
            return Verdict.failed(error)

    def packed(self) -> bytes:
        """The bytes that a worker reads. Raises whatever pickling raises."""
        body = pickle.dumps((self.before, self.call, self.args, dict(self.named), self.seconds))
        return len(body).to_bytes(LENGTH, "big") + body


class Worker:
    """One process, and what is under way in it."""

    def __init__(self, memory: float, *, heard: bool) -> None:
        jobs, self.outbox = os.pipe()
        self.inbox, replies = os.pipe()
        paths = [path or os.getcwd() for path in sys.path]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE.format(jobs, replies, memory)],
            stdin=subprocess.DEVNULL,
            stdout=2 if heard else subprocess.DEVNULL,
            stderr=2 if heard else subprocess.DEVNULL,
            pass_fds=(jobs, replies),
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        for theirs in (jobs, replies):
            os.close(theirs)
        for ours in (self.inbox, self.outbox):
            os.set_blocking(ours, False)
        self.number: int | None = None
        """The check that it is making."""

    def begin(self, number: int, check: Check, body: bytes) -> None:
        """Send it a check."""
        self.number, self.check, self.unsent, self.heard_so_far = number, check, body, b""
        self._time(LOADING)

    def _time(self, limit: float) -> None:
        self.limit, self.began, self.starved = limit, time.monotonic(), self._waited()
        self.deadline = self.began + limit

    def send(self) -> None:
        """Write what the pipe takes now; a worker that is gone is seen when it is read from."""
        with contextlib.suppress(BlockingIOError):
            try:
                self.unsent = self.unsent[os.write(self.outbox, self.unsent[:LONGEST_REPLY]) :]
            except BrokenPipeError:
                self.unsent = b""

    def receive(self) -> tuple[Verdict | None, bool]:
        """(the verdict on its check, once there is one; whether the process may go on)."""
        try:
            heard = os.read(self.inbox, LONGEST_REPLY)
        except BlockingIOError:
            return None, True
        self.heard_so_far += heard
        if not heard or len(self.heard_so_far) > LONGEST_REPLY:
            return self._ended(), False
        *lines, self.heard_so_far = self.heard_so_far.split(b"\n")
        for line in lines:
            try:
                said = json.loads(line)
                if "outcome" in said:
                    last = said.pop("last", False)
                    return Verdict(**said), not last
            except (ValueError, TypeError):  # the check itself has written on the pipe
                self.end()
                return Verdict("error", reason="the check wrote on its worker's own pipe"), False
            self._time(self.check.seconds)
        return None, True

    def _ended(self) -> Verdict:
        """The verdict of a process that says nothing any more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.poll()
        self.end()
        if code == -signal.SIGALRM:  # the worker's own, far beyond the limit
            return self._late()
        how = "closed its pipe" if code is None else f"ended with exit code {code}"
        how = how if code is None or code >= 0 else f"ended by signal {-code}"
        return Verdict("error", reason=f"the check's process {how}")

    def _late(self) -> Verdict:
        return Verdict("timeout", reason=f"the check took longer than {self.limit:g} s")

    def overdue(self) -> Verdict | None:
        """A verdict where the check takes too long: time without a processor is added to it."""
        over = time.monotonic() - self.began - (self._waited() - self.starved) - self.limit
        if over < 0:
            self.deadline = time.monotonic() - over
            return None
        self.end()
        return self._late()

    def _waited(self) -> float:
        """Seconds for which the process was ready and had no processor, where the system tells."""
        try:
            with open(f"/proc/{self.process.pid}/schedstat", encoding="ascii") as told:
                return int(told.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def end(self) -> None:
        """Kill the process and its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.inbox, self.outbox):
            with contextlib.suppress(OSError):
                os.close(pipe)
        self.inbox = self.outbox = -1


class Pool:
    """Workers that live as long as the process that asks them."""

    def __init__(self, workers: int = 2, memory: float = 2.0, *, heard: bool = False) -> None:
        """``memory``: gigabytes of a worker; ``heard``: its prints go to our standard error."""
        self.size, self.memory, self.heard = workers, memory, heard
        self.idle: list[Worker] = []
        self.busy: list[Worker] = []
        self._lock, self._owner = threading.Lock(), os.getpid()
        atexit.register(self.close)

    def make(self, checks: Sequence[Check], label: str = "checking answers") -> list[Verdict]:
        """The verdicts on all checks, in their order."""
        with self._lock, task(label, len(checks), "answers") as under_way:
            self._disown()
            verdicts: dict[int, Verdict] = {}
            coming = deque(enumerate(checks))
            try:
                while len(verdicts) < len(checks):
                    before = len(verdicts)
                    while coming and len(self.busy) < self.size:
                        self._give(*coming.popleft(), verdicts)
                    self._wait()
                    for worker in list(self.busy):
                        self._attend(worker, verdicts)
                    under_way.advance(len(verdicts) - before)
            finally:
                while self.busy:  # we were interrupted: nobody will ask for these any more
                    self.busy.pop().end()
        return [verdicts[number] for number in range(len(checks))]

    def close(self) -> None:
        """End all workers; the next check starts new ones."""
        self._disown()
        while self.idle or self.busy:
            (self.idle or self.busy).pop().end()

    def _disown(self) -> None:
        """In a fork of the process, the workers are the parent's."""
        if self._owner != os.getpid():
            self.idle, self.busy, self._owner = [], [], os.getpid()

    def _give(self, number: int, check: Check, verdicts: dict[int, Verdict]) -> None:
        try:
            body = check.packed()
        except Exception as error:  # whatever an object's own pickling raises
            reason = f"it cannot be sent to a worker: {type(error).__name__}: {error}"
            verdicts[number] = Verdict("error", reason=reason[:200])
            return
        while self.idle and self.idle[-1].process.poll() is not None:
            self.idle.pop().end()
        worker = self.idle.pop() if self.idle else Worker(self.memory, heard=self.heard)
        worker.begin(number, check, body)
        self.busy.append(worker)

    def _wait(self) -> None:
        """Until a worker says something, takes more of its check, or is overdue."""
        if not self.busy:
            return
        with selectors.DefaultSelector() as selector:
            for worker in self.busy:
                selector.register(worker.inbox, selectors.EVENT_READ)
                if worker.unsent:
                    selector.register(worker.outbox, selectors.EVENT_WRITE)
            first = min(worker.deadline for worker in self.busy)
            selector.select(max(first - time.monotonic(), 0.0))

    def _attend(self, worker: Worker, verdicts: dict[int, Verdict]) -> None:
        if worker.unsent:
            worker.send()
        verdict, alive = worker.receive()
        if verdict is None and time.monotonic() >= worker.deadline:
            verdict, alive = worker.overdue(), False
        if verdict is None:
            return
        assert worker.number is not None
        verdicts[worker.number], worker.number = verdict, None
        self.busy.remove(worker)
        if alive:
            self.idle.append(worker)
        elif worker.inbox >= 0:
            worker.end()


@cache
def pool_of(workers: int, memory: float, *, heard: bool = False) -> Pool:
    """The pool that all rewards with these settings share."""
    return Pool(workers, memory, heard=heard)
