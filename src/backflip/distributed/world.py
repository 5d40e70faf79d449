"""The world of ranks: processes that hold the same batch and share out its forward passes.

Every decision of control, every sum of losses and every reading of many rows goes through a
``World``; with one process it is ``Alone``, where nothing is exchanged. Code above finds the one
that it runs in by ``here``, so that no signature names a rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ["ALONE", "Alone", "World", "here", "settled"]

T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class World(Protocol):
    """Ranks that run the same program on the same batch."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes files and prints."""
        ...

    @property
    def began(self) -> float | None:
        """Seconds since the epoch at which the ranks met, by rank 0's clock; None alone."""
        ...

    def deal(self, pieces: Sequence[T]) -> list[tuple[T, bool]]:
        """(piece, whether its result counts) that this rank computes: as many on each rank.

        Pieces are told largest first. A rank without work repeats the smallest piece, so that it
        joins in whatever the others do together; the result does not count.
        """
        ...

    def spread(self, pieces: Sequence[T], work: Callable[[T], R]) -> list[R]:
        """The result of ``work`` for each piece, computed where it was dealt to, on every rank."""
        ...

    def everyone(self, said: T) -> list[T]:
        """The objects of all ranks, by rank."""
        ...

    def tell(self, said: T) -> T:
        """Rank 0's object, on every rank."""
        ...

    def once(self, work: Callable[[], T]) -> T:
        """The result of ``work``, which rank 0 alone does; what it raises is raised everywhere."""
        ...

    def shard(self, model: Any) -> Any:
        """A model with its parameters laid out over the ranks."""
        ...


@dataclass(frozen=True)
class Alone:
    """A world of one process."""

    rank: int = 0
    size: int = 1
    leads: bool = True
    began: float | None = None

    def deal(self, pieces: Sequence[T]) -> list[tuple[T, bool]]:
        return [(piece, True) for piece in pieces]

    def spread(self, pieces: Sequence[T], work: Callable[[T], R]) -> list[R]:
        return [work(piece) for piece in pieces]

    def everyone(self, said: T) -> list[T]:
        return [said]

    def tell(self, said: T) -> T:
        return said

    def once(self, work: Callable[[], T]) -> T:
        return work()

    def shard(self, model: Any) -> Any:
        return model


ALONE = Alone()
_HERE: ContextVar[World] = ContextVar("world", default=ALONE)


def here() -> World:
    """The world that this code runs in. A thread of its own is alone: it may wait for nobody."""
    return _HERE.get()


@contextlib.contextmanager
def settled(world: World) -> Generator[World, None, None]:
    """Inside, ``world`` is the one that code runs in."""
    before = _HERE.get()
    _HERE.set(world)
    try:
        yield world
    finally:
        _HERE.set(before)
