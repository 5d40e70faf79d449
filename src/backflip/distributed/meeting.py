"""Where the processes of one start meet, and find nothing of those before them.

``torchrun`` keeps one store over all of its restarts, in which the addresses of dead processes are
still written: whoever reads those waits for somebody who will not come. So rank 0 of each start
makes up a place of its own, and tells it to whoever asks by a word that nobody has used before.
"""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

__all__ = ["meet"]

EVERY = 0.05
"""Seconds between two looks of rank 0 for ranks that ask."""


def meet(patience: float) -> tuple[Any, int, int, Callable[[], None]]:
    """(the store of this start, rank, number of ranks, what to call once all have met).

    Raises RuntimeError where rank 0 does not answer within ``patience`` seconds.
    """
    limit = datetime.timedelta(seconds=patience)
    found: Any = next(iter(rendezvous("env://", timeout=limit)))
    store, rank, size = found
    met = threading.Event()
    if rank == 0:
        place = uuid.uuid4().hex
        given = (store.clone(), place, size, met)
        threading.Thread(target=_answer, args=given, daemon=True).start()
    else:
        word = uuid.uuid4().hex
        store.set(f"backflip-asks-{rank}", word)
        place = store.get(f"backflip-answer-{word}").decode()
    own: Any = dist.PrefixStore(f"backflip-{place}", store)  # pyright: ignore
    return own, rank, size, met.set


def _answer(store: Any, place: str, size: int, met: threading.Event) -> None:
    """Tell the place to each rank that asks, until all have met."""
    answered = set[str]()
    while not met.wait(EVERY):
        try:
            for rank in range(1, size):
                if not store.check([f"backflip-asks-{rank}"]):
                    continue
                word = store.get(f"backflip-asks-{rank}").decode()
                if word not in answered:
                    store.set(f"backflip-answer-{word}", place)
                    answered.add(word)
        except Exception:  # the store is gone, and with it the start
            return
