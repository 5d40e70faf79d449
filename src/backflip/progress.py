"""How far something is that takes a while: one mechanism for all rooms, as ``logging`` is one.

Whoever does the work opens a task where it is done; ``monitor/progress.py`` listens meanwhile and
shows it. Without a listener a task costs a few additions.

>>> with task("scoring", total=2, unit="answers") as scoring:
...     scoring.advance(2)
>>> scoring.share
1.0
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

__all__ = ["Listener", "Task", "each", "listener", "listening", "silently", "task"]

T = TypeVar("T")


@dataclass(eq=False)
class Task:
    """Something under way."""

    label: str
    """The task in a word or two: ``validation``, ``reading rows.jsonl``."""
    total: int | None = None
    """How much there is of it; None where nobody knows."""
    unit: str = ""
    """The unit of its count: ``rows``, ``answers``, ``bytes``."""
    done: int = 0
    lasting: bool = False
    """Whether it stays in view while parts of it are shown: a stage of training, a round."""
    numbers: str = ""
    """A note beside it, such as the loss."""
    position: Callable[[], int] | None = None
    """Asked for ``done`` whenever somebody looks, where counting would cost more than the work."""
    first: int = 0
    """Units done before it began: a resumed run."""
    began: float = field(init=False)
    """On the clock of ``time.monotonic``."""

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """So much more is done."""
        self.done += steps
        if (shows := listener()) is not None:
            shows.look()

    def reach(self, done: int, total: int | None = None) -> None:
        """So much is done in all, and, with ``total``, that is how much there is."""
        self.done, self.total = done, self.total if total is None else total
        if (shows := listener()) is not None:
            shows.look()

    def measure(self) -> None:
        """Ask how far it is, where it is not counted."""
        if self.position is not None:
            with contextlib.suppress(ValueError, OSError):  # the file is closed already
                self.done = self.position()

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0 to 1; None where nobody knows how much there is."""
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def seconds(self) -> float:
        """Since it began, in this session."""
        return time.monotonic() - self.began

    @property
    def seconds_left(self) -> float | None:
        """From the mean speed of this session; None before anything is done."""
        done = self.done - self.first
        if self.total is None or done <= 0:
            return None
        return self.seconds / done * max(self.total - self.done, 0)


@runtime_checkable
class Listener(Protocol):
    """Shows the tasks that are under way."""

    def begin(self, task: Task, /) -> None: ...
    def end(self, task: Task, /) -> None: ...

    def look(self) -> None:
        """Told after every step of any task: a good moment to show something."""
        ...

    def urgent(self, sentence: str, /) -> bool:
        """Keep a sentence in view from now on; False where there is no view to keep it in.

        Called from a signal's handler, in the middle of anything: it may print nothing itself.
        """
        ...


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def listener() -> Listener | None:
    """Who shows progress at the moment; None where nobody does."""
    return _LISTENER.get()


@contextlib.contextmanager
def listening(shows: Listener | None) -> Generator[None, None, None]:
    """Inside, ``shows`` is told of every task of this thread; None silences them."""
    before = _LISTENER.get()
    _LISTENER.set(shows)
    try:
        yield
    finally:
        _LISTENER.set(before)


@contextlib.contextmanager
def task(
    label: str,
    total: int | None = None,
    unit: str = "",
    *,
    lasting: bool = False,
    position: Callable[[], int] | None = None,
) -> Generator[Task, None, None]:
    """A task that is under way inside; the fields of ``Task`` say what is meant."""
    made = Task(label, total, unit, lasting=lasting, position=position)
    shows = listener()
    if shows is None:
        yield made
        return
    shows.begin(made)
    try:
        yield made
    finally:
        shows.end(made)


def each(items: Iterable[T], label: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """The items, one after the other; each is done when the next is asked for."""
    with task(label, total, unit) as under_way:
        for item in items:
            yield item
            under_way.advance()


def silently(items: Iterable[T]) -> Iterator[T]:
    """The items, whose making is shown by nobody: it goes on beside other things for long."""
    made = iter(items)
    while True:
        with listening(None):
            try:
                item = next(made)
            except StopIteration:
                return
        yield item
