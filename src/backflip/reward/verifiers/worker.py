"""A worker: a process that reads a check, makes it, says its verdict, and is killed from outside.

Replies are lines of JSON on a pipe of their own, so that what a check prints reaches nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
from typing import Any

from backflip.reward.verifier import Verdict

__all__ = ["ALONE", "LENGTH", "main"]

LENGTH = 8
"""Bytes that say how long a job is."""
ALONE = 10
"""Times its limit after which a check ends without anybody to kill it: its run is gone."""
GIGABYTE = 1 << 30


def main(jobs: int, replies: int, memory: float) -> None:
    """Serve until ``jobs`` ends; file descriptors of pipes, and gigabytes of address space."""
    _bound(memory)
    with os.fdopen(jobs, "rb") as coming:
        while header := coming.read(LENGTH):
            body = coming.read(int.from_bytes(header, "big"))
            last = _serve(body, replies)
            if last:
                return


def _serve(body: bytes, replies: int) -> bool:
    """Make one check; True where the process should end, as its memory is used up."""
    try:
        before, check, args, named, seconds = pickle.loads(body)
        for prepare, what in before:
            prepare(what)
        _say(replies, {"begun": True})
        signal.setitimer(signal.ITIMER_REAL, ALONE * seconds)  # left alone, it kills this process
        verdict = Verdict.of(check(*args, **named))
    except MemoryError:
        verdict = Verdict("error", reason="the check needs more memory than its worker may have")
        _say(replies, _said(verdict) | {"last": True})
        return True
    except (Exception, SystemExit) as error:  # one answer's, not the worker's
        verdict = Verdict.failed(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _say(replies, _said(verdict))
    return False


def _said(verdict: Verdict) -> dict[str, Any]:
    score = None if verdict.score is None else float(verdict.score)
    return {"outcome": verdict.outcome, "score": score, "reason": verdict.reason[:200]}


def _say(replies: int, what: dict[str, Any]) -> None:
    line = json.dumps(what).encode() + b"\n"
    while line:
        line = line[os.write(replies, line) :]


def _bound(memory: float) -> None:
    """No core files, and a bound on the address space where the system has such bounds."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        size = int(memory * GIGABYTE)
        soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
