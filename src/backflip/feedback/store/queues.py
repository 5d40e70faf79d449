"""Queues of waiting items: a word in an indexed column, so that the next one is never searched for.

An item leaves its queue when it is full (answers and live leases reach what it wants) and comes
back when a lease expires.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Purpose: TypeAlias = Literal["work", "gold", "screening", "calibration", "golden"]
"""work: to be judged. gold: known answer, injected unseen. screening: the quiz at the door, with
feedback. calibration: agreed examples that all raters answer first, with feedback. golden: for
seniors alone, kept for probes."""

WORK = "work"
RANDOM = "random"
"""The random arm beside an active one."""
FULL = "full"
CLOSED = "closed"
ADJUDICATE = "adjudicate"
SENIORS = ("adjudicator", "lead", "admin")
EVERYBODY = ("gold", "screening", "calibration")
"""Purposes whose items everybody answers: they are never full."""


def home(purpose: str, origin: str) -> str:
    """Where an open item waits that wants answers."""
    return RANDOM if purpose == WORK and origin == RANDOM else purpose


def waits(*, purpose: str, origin: str, state: str, taken: int, wanted: int) -> str:
    """The queue of an item in this state."""
    if state == ADJUDICATE:
        return ADJUDICATE
    if state != "open":
        return CLOSED
    if purpose not in EVERYBODY and taken >= wanted:
        return FULL
    return home(purpose, origin)
