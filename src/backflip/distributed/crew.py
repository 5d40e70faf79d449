"""The crew of a run: roles that live in processes of their own, on this machine or on others.

A member is built where it lives, by a function that is named, and is asked by the names of its
methods. What it knows is lost when it dies, so whoever asks it must be able to tell it again. No
wait is without a limit.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter, deque
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from backflip.errors import UserError
from backflip.text import counted

__all__ = ["Crew", "Lost", "Member", "Patience", "answer"]

HOUR = 3600.0
IN_A_ROW = 2
"""Most starts of a member that have not brought an answer."""


class Lost(Exception):  # noqa: N818 (whoever asked decides whether it is an error)
    """A member has died, or does not answer; the message says which, and what is known of it."""


@runtime_checkable
class Member(Protocol):
    """A role in a process of its own."""

    name: str
    """Such as ``sampler 1``."""

    def ask(self, method: str, *given: Any) -> Future[Any]:
        """What a method of the role returns or raises, once it is there; Lost where it died."""
        ...

    def begin_again(self) -> None:
        """End it, whatever it does, and start another in its place."""
        ...


@runtime_checkable
class Crew(Protocol):
    """Members, and the store that they all read from."""

    def start(self, name: str, maker: str, *given: Any) -> Member:
        """A new member: ``maker``, named ``package.module:function``, is called where it lives."""
        ...

    def share(self, value: Any) -> Any:
        """The value as it is best handed to several members."""
        ...

    def close(self) -> None:
        """End all members."""
        ...


@dataclass
class Patience:
    """Limits on waiting for members, and on starting them again."""

    answer: float = 600.0
    """Seconds for an answer."""
    start: float = 900.0
    """Seconds until a member that was started has built its role."""
    restarts: int = 5
    """Most members started again within an hour."""
    _silent: Counter[str] = field(default_factory=Counter[str], repr=False)
    """How often each was started again since its last answer."""
    _again: deque[float] = field(default_factory=deque[float], repr=False)

    def answered(self, member: Member) -> None:
        """A member has answered."""
        self._silent.pop(member.name, None)

    def begin_again(self, member: Member, why: str) -> None:
        """Start a member again and say so. Raises UserError where that was done too often."""
        if self._silent[member.name] >= IN_A_ROW:
            raise UserError(
                f"{member.name}: {why}. It was started again {counted(IN_A_ROW, 'time')} and never "
                "answered. Is there room for it on the cluster, and does its machine have what it "
                "loads?"
            )
        now = time.monotonic()
        while self._again and now - self._again[0] > HOUR:
            self._again.popleft()
        if len(self._again) >= self.restarts:
            raise UserError(
                f"{member.name}: {why}. Members of the cluster were started again "
                f"{len(self._again)} times within an hour, which is the most "
                "(cluster.restarts). Look at the logs of Ray: ray logs."
            )
        self._again.append(now)
        self._silent[member.name] += 1
        warnings.warn(f"{member.name} is started again: {why}", stacklevel=2)
        member.begin_again()


def answer(asked: Future[Any], seconds: float, name: str) -> Any:
    """The answer of a member. Raises Lost where there is none after so many seconds."""
    wait([asked], timeout=seconds)
    if not asked.done():
        raise Lost(f"{name} has not answered for {seconds:g} s")
    return asked.result()
