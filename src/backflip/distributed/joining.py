"""Whether this process is one of several, and how they meet."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator

from backflip.distributed.world import World, here, settled
from backflip.errors import UserError

__all__ = ["BEGAN", "began", "bounded", "joined", "patience", "rank_given", "restarted", "several"]

NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that ``torchrun`` sets for each process."""
BEGAN = "BACKFLIP_BEGAN"
"""Variable with the time at which a command was given, which later starts of it do not change."""
PATIENCE = "BACKFLIP_PATIENCE"
"""Variable with the seconds that ranks wait for one another."""
SECONDS = 600.0


def several() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return all(name in os.environ for name in NEEDED) and int(os.environ["WORLD_SIZE"]) > 1


def rank_given() -> int:
    """The rank that ``torchrun`` gave this process; 0 alone."""
    return int(os.environ["RANK"]) if several() else 0


def restarted() -> bool:
    """Whether ``torchrun`` has started this process again, after one had failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def began() -> float | None:
    """Seconds since the epoch at which the command was given, where somebody says so."""
    return float(os.environ[BEGAN]) if BEGAN in os.environ else None


def patience() -> float:
    """Seconds that ranks wait for one another."""
    said = os.environ.get(PATIENCE, "")
    try:
        seconds = float(said) if said else SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UserError(f"{PATIENCE} is {said!r}; give a number of seconds above 0, such as 600.")
    return seconds


def bounded(answer: float, start: float) -> tuple[float, float, str]:
    """(seconds for an answer, seconds to start, a sentence if they are less than asked for).

    While rank 0 waits for somebody outside, or for whoever replaces him, the other ranks wait too.
    """
    if not several():
        return answer, start, ""
    most = patience()
    less = min(answer, most / 4), min(start, most * 0.45)
    said = (
        f"ranks wait {most:g} s for one another: who is outside of them gets {less[0]:g} s for an "
        f"answer and {less[1]:g} s to start. {PATIENCE}=SECONDS gives more"
    )
    return *less, "" if less == (answer, start) else said


@contextlib.contextmanager
def joined() -> Generator[World, None, None]:
    """Inside, this process is one of those that ``torchrun`` started, or alone."""
    if here().size > 1 or not several():
        yield here()
        return
    from backflip.distributed.gang import join

    gang, faults = join(patience())
    try:
        with settled(gang):
            yield gang
        gang.leave()
    except BaseException as error:
        said = faults.explained(error)
        if said is error:
            raise
        raise said from error
    faults.leave()
