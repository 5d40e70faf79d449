"""The world of ranks: processes that hold the same batch and share out its forward passes.

Every decision of control, every sum of losses and every reading of many rows goes through a
``World``; with one process it is ``Alone``, where nothing is exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ["ALONE", "Alone", "World"]

T = TypeVar("T")


@runtime_checkable
class World(Protocol):
    """Ranks that work on the same batch."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def deal(self, pieces: Sequence[T]) -> list[T]:
        """The pieces that this rank computes."""
        ...

    def gather(self, found: list[T]) -> list[T]:
        """The results of all ranks, in the same order on each."""
        ...

    def agree(self, flag: bool) -> bool:
        """True on every rank where it is true on any."""
        ...

    def tell(self, said: Any) -> Any:
        """Rank 0's object, on every rank."""
        ...


@dataclass(frozen=True)
class Alone:
    """A world of one process."""

    rank: int = 0
    size: int = 1

    def deal(self, pieces: Sequence[T]) -> list[T]:
        return list(pieces)

    def gather(self, found: list[T]) -> list[T]:
        return found

    def agree(self, flag: bool) -> bool:
        return flag

    def tell(self, said: Any) -> Any:
        return said


ALONE = Alone()
