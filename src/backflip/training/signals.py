"""Signals that ask a run to stop, heard when it suits."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from backflip.distributed.joining import began, rank_given
from backflip.progress import listener

__all__ = ["Signals"]

FINISHING = "finishing this step, then saving; Ctrl-C again leaves at once"


class Signals:
    """Notes the first SIGINT or SIGTERM; the second SIGINT is a KeyboardInterrupt.

    Off the main thread, where Python lets nobody handle signals, it notes nothing. Of several
    processes rank 0 says so, or the one command that started them all.
    """

    def __init__(self) -> None:
        self.first: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: it was not set from Python, nor can it be
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.first is None:
            self.first = signal.Signals(number).name
            shows = listener()
            told = rank_given() > 0 or began() is not None
            if not told and (shows is None or not shows.urgent(FINISHING)):
                # Not print: the handler may have come in the middle of one.
                os.write(2, f"\n{FINISHING}\n".encode())
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
