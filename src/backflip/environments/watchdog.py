"""A time limit for calls of code that is not ours: tools, environments."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from backflip.errors import UserError
from backflip.text import counted

__all__ = ["TooLongError", "Watchdog"]

GRACE = 0.2
"""Seconds in which a call that is interrupted must end."""
MOST_LOST = 8
"""Calls that may run on in the background before the run is ended."""
STUCK = 30.0
"""Seconds beyond a limit for which a call may keep the interpreter to itself."""

_deadlines: dict[object, float] = {}
_arming = threading.Lock()


class TooLongError(Exception):
    """A call that did not end in time. ``lost``: it could not be interrupted, and runs on."""

    def __init__(self, seconds: float, *, lost: bool) -> None:
        super().__init__(f"it took longer than {seconds:g} s")
        self.lost = lost


class _Interrupt(BaseException):
    """Raised inside a call by the watchdog; no ``except Exception`` holds it up."""


@dataclass
class Watchdog:
    """Calls functions in threads of their own, and leaves those that take too long.

    An endless loop of Python is interrupted; what waits outside of Python (a socket, a sleep)
    cannot be, runs on, and is counted in ``lost``. One that keeps the interpreter's lock (a regular
    expression that goes back and forth, a power tower) ends the process ``STUCK`` seconds after
    its time, with the traceback of its line. Memory is not bounded.
    """

    seconds: float
    lost: int = field(default=0, init=False)

    def __call__(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
        """The function's result; a coroutine is awaited. Raises what the function raises.

        Raises:
            TooLongError: no result in time.
            UserError: too many calls run on in the background.

        """
        call = _Call(function, args, named)
        with _released_within(self.seconds + GRACE + STUCK):
            lost = call.lost(self.seconds)
        if lost is not None:
            self.lost += lost
            if self.lost > MOST_LOST:
                name = getattr(function, "__qualname__", repr(function))
                raise UserError(
                    f"{counted(self.lost, 'call')} of the environment took longer than "
                    f"{self.seconds:g} s, could not be interrupted and still run, the last one in "
                    f"{name}. Give what it waits for a time limit of its own."
                )
            raise TooLongError(self.seconds, lost=lost)
        if call.error is not None:
            raise call.error
        return call.result


@dataclass
class _Call:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    named: dict[str, Any]
    ended: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None

    def lost(self, seconds: float) -> bool | None:
        """Whether it runs on, interrupted after ``seconds``; None where it ended in time."""
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        if self.ended.wait(seconds):
            return None
        _interrupt(thread)
        return not self.ended.wait(GRACE)

    def run(self) -> None:
        try:
            result = self.function(*self.args, **self.named)
            self.result = asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result
        except BaseException as error:  # whatever it raises is for the caller
            self.error = error
        finally:
            self.ended.set()


async def _awaited(result: Any) -> Any:
    return await result


def _interrupt(thread: threading.Thread) -> None:
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Interrupt))


@contextlib.contextmanager
def _released_within(seconds: float) -> Iterator[None]:
    """Ends the process, with all tracebacks, unless Python comes out of the block in time.

    By the timer of faulthandler, a thread that needs no lock of the interpreter. A process has one,
    which is set to the earliest of all open blocks; another user's own is replaced.
    """
    mine = object()
    try:
        with _arming:
            _deadlines[mine] = time.monotonic() + seconds
            _arm()
        yield
    finally:
        with _arming:
            _deadlines.pop(mine, None)
            _arm()


def _arm() -> None:
    if not _deadlines:
        return faulthandler.cancel_dump_traceback_later()
    left = max(min(_deadlines.values()) - time.monotonic(), 0.001)
    return faulthandler.dump_traceback_later(left, exit=True, file=2)
