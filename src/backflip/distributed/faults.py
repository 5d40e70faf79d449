"""Faults of ranks: one message that names the rank, and nobody who waits for ever.

A rank that fails leaves its last words in the store of the process group. Whoever was waiting for
it looks for them there; a thread of each rank looks too, for a rank that is stuck or asleep.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch.distributed as dist

from backflip.errors import RankError

__all__ = ["Faults"]

GRACE = 3.0
"""Seconds that ranks have to say what happened to them, once one has failed."""
EVERY = 0.5
"""Seconds between two looks of the thread."""
OWN = 1.0
"""Seconds in which a rank that has heard of a fault may still say one of its own."""
WORDS = 2000
"""Most letters of last words."""
RAISED, LOST, HEARD = "raised", "lost", "heard"
"""Kinds of words: an error of one's own, of a collective, or none while others fail."""
ANYBODY = "anybody"
OF_OTHERS = ("gloo", "NCCL", "Timed out", "Connection closed", "Connection reset", "Broken pipe")
"""Words of errors of a collective: somebody else is at fault."""


class Faults:
    """What ranks said when they failed."""

    def __init__(self, rank: int, size: int, patience: float) -> None:
        """``patience``: seconds that ranks wait for one another."""
        self.rank, self.size, self.patience = rank, size, patience
        store = dist.distributed_c10d._get_default_store()  # pyright: ignore
        self._prefix = "fault-"
        self._store, self._looking = store, store.clone()  # pyright: ignore
        self._left, self._said = threading.Event(), False
        threading.Thread(target=self._watch, daemon=True).start()
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._ended)

    def leave(self) -> None:
        """Look no more: the work is done."""
        self._left.set()
        if self._main:
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)

    def explained(self, error: BaseException) -> BaseException:
        """The error as this rank is to end with it, once all have had time to speak.

        What every rank raised is said by rank 0; what some raised is said by them, with their
        numbers; of a rank that said nothing the lowest of the others speaks. The rest end silently.
        """
        self._said = True
        lost = _of_others(error)
        self._post(LOST if lost else RAISED, str(error))
        said = self._collected()
        raised = {rank: words for rank, (kind, words) in said.items() if kind == RAISED}
        code = getattr(error, "exit_code", 1)
        if lost:
            waiting = [rank for rank, (kind, _) in said.items() if kind == LOST]
            speaks = not raised and self.rank == min(waiting)
            return RankError(self._missing(said, error)) if speaks else SystemExit(1)
        if len(raised) == self.size and len(set(raised.values())) == 1:
            return error if self.rank == 0 else SystemExit(code)
        if error.args and isinstance(error.args[0], str):
            error.args = (f"rank {self.rank} of {self.size}: {error.args[0]}", *error.args[1:])
        return error

    def _missing(self, said: dict[int, tuple[str, str]], error: BaseException) -> str:
        """Who has not come, or is gone. A rank that has only heard of it lives, and waits not."""
        late = "imed out" in str(error)
        missing = [rank for rank in range(self.size) if rank not in said]
        if late or not missing:
            missing += [rank for rank, (kind, _) in said.items() if kind == HEARD]
        ranks = ", ".join(map(str, sorted(missing)))
        go_on = "The run goes on from its last checkpoint: backflip resume RUN."
        if not missing:
            return (
                f"the {self.size} ranks waited {self.patience:g} s for one another in different "
                f"places ({str(error).splitlines()[0][:200]}). Do all of them see the same files?"
            )
        if late:
            return (
                f"rank {ranks} of {self.size} has not come for {self.patience:g} s: stuck, "
                f"asleep or slower than that. BACKFLIP_PATIENCE=SECONDS waits longer. {go_on}"
            )
        return (
            f"rank {ranks} of {self.size} is gone without a word: it was killed, perhaps for want "
            f"of memory. {go_on}"
        )

    def _post(self, kind: str, words: str) -> None:
        try:
            store = self._looking if kind == HEARD else self._store
            store.set(f"{self._prefix}{self.rank}", f"{kind} {words[:WORDS]}")
            store.set(self._prefix + ANYBODY, "")
        except Exception:  # the store is gone with whoever held it
            return

    def _collected(self) -> dict[int, tuple[str, str]]:
        """{rank: (kind, words)} of those who speak in time."""
        until = time.monotonic() + GRACE
        while True:
            said = self._heard(self._store)
            if len(said) == self.size or time.monotonic() > until:
                return said
            time.sleep(0.05)

    def _heard(self, store: Any) -> dict[int, tuple[str, str]]:
        found: dict[int, tuple[str, str]] = {}
        for rank in range(self.size):
            key = f"{self._prefix}{rank}"
            try:
                if store.check([key]):
                    kind, _, words = store.get(key).decode(errors="replace").partition(" ")
                    found[rank] = (kind, words)
            except Exception:  # whoever held the store has ended
                return found
        return found

    def _watch(self) -> None:
        """End this process where another has failed and its own work does not end by itself."""
        while not self._left.wait(EVERY):
            if self._said or not self._failed():
                continue
            if self._left.wait(OWN) or self._said:
                return
            self._post(HEARD, "")  # nobody needs to wait for it
            if self._left.wait(GRACE / 2) or self._said:
                return
            os._exit(1)  # whoever failed has said it

    def _failed(self) -> bool:
        """Whether anybody has."""
        try:
            return self._looking.check([self._prefix + ANYBODY])
        except Exception:  # whoever held the store has ended
            return False

    def _ended(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: torchrun has seen another rank fail, or the job is to end."""
        del frame
        if not self._said:
            threading.Timer(GRACE + 1, os._exit, [128 + number]).start()


def _of_others(error: BaseException) -> bool:
    collective = isinstance(error, dist.DistError)
    text = str(error)
    return collective or (type(error) is RuntimeError and any(word in text for word in OF_OTHERS))
