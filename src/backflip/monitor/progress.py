"""Progress of tasks: bars in a terminal, a plain line every few seconds elsewhere.

A terminal gets one line for each stage that lasts and one for what is being done within it, never
wider than the terminal. Elsewhere one clock serves everybody: a line at most every ``every``
seconds, whatever is being done.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from backflip.distributed.joining import rank_given
from backflip.progress import Task, listener, listening, task
from backflip.text import duration, percent

UNITS: Mapping[str, str] = {"kl": " nats"}
COUNTS = frozenset({"rows_left_out"})
SHARES = frozenset({"accuracy", "val_accuracy", "val_pass_at_1", "finished"})
ROUNDING = 1e-4
"""Nats, of either sign, that arithmetic leaves between a model and itself."""
PATIENCE = 1.5
"""Seconds that something takes before it is worth a line of its own."""
STANDSTILL = 6
"""Lines that say nothing new come ever later, at most this many times as late as others."""
LABEL = 30
"""Letters of a label that are shown at most."""


class Progress:
    """Shows every task that is opened while it is entered (``backflip.progress``).

    >>> with Progress(every=10.0) as progress:
    ...     stage = progress.stage("ppo", total=2, headlines=("reward", "kl"))
    ...     stage.advance({"reward": 0.1, "kl": 0.0})
    """

    def __init__(self, console: Console | None = None, *, every: float | int = 10.0) -> None:
        """``every`` is the number of seconds between lines where there is no terminal."""
        # Of several processes one shows what all of them do.
        self._console = console or Console(quiet=rank_given() > 0)
        self._tasks: list[Task] = []
        self._pace, self._told = _Pace(every), 0.0
        self._stage: StageProgress | None = None
        self._urgent = ""
        self._lock, self._left = threading.RLock(), threading.Event()
        self._live = _live(self._console, self._drawn) if _draws(self._console) else None
        self._around = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        self._around.enter_context(listening(self))
        self._told = time.monotonic()
        if self._live is not None:
            self._live.start()
        else:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        self._around.close()
        self._end_stage()
        if self._live is not None:
            self._live.stop()

    def stage(
        self, name: str, *, total: int | None, done: int = 0, headlines: Sequence[str]
    ) -> StageProgress:
        """Begin a stage of ``total`` steps, of which a resumed run has ``done`` behind it.

        None where nobody knows how many there are. ``headlines``: metrics to show beside them.
        """
        self._end_stage()
        self._stage = StageProgress(name, total, done, headlines, self)
        self.begin(self._stage.task)
        return self._stage

    def say(self, sentence: str) -> None:
        """Print a line of its own above the bars, such as an alarm."""
        self._print(sentence)

    # ---- what is told of tasks

    def begin(self, task: Task) -> None:
        """Show this task from now on."""
        with self._lock:
            self._tasks.append(task)

    def end(self, task: Task) -> None:
        """Show it no more."""
        with self._lock:
            self._tasks = [other for other in self._tasks if other is not task]

    def look(self) -> None:
        """Print a line where it is time for one and there are no bars."""
        if self._live is not None:
            return
        with self._lock:
            current, waited = self._current(), time.monotonic() - self._told
            if current is not None and self._pace.due(_around(current, self._tasks), waited):
                self.tell(current)

    def urgent(self, sentence: str) -> bool:
        """Draw a sentence below the bars from now on, where there are any."""
        self._urgent = sentence
        return self._live is not None

    def tell(self, task: Task, *, over: bool = False) -> None:
        """Print how far a task is, as a line; or, when it is ``over``, how far it came.

        The stage that it is part of stands before it.
        """
        tasks = _around(task, self._tasks)
        self._pace.printed(tasks)
        self._told = time.monotonic()
        self._print(": ".join(line(task, over=over) for task in tasks))

    def stepped(self, stage: StageProgress, *, first: bool) -> None:
        """A stage has taken steps: its first and its last have lines of their own."""
        if stage.total is not None and stage.done >= stage.total:
            self._end_stage()
        elif first and self._live is None:
            self.tell(stage.task)
        else:
            self.look()

    # ---- how it looks

    def _current(self) -> Task | None:
        """The innermost task that takes its time, or the stage around it."""
        stages = _lasting(self._tasks)
        slow = [
            task
            for task in self._tasks
            if task.lasting or (task.seconds >= PATIENCE and not (stages and task.total == 1))
        ]
        return slow[-1] if slow else None

    def _watch(self) -> None:
        """Look now and then, where a single step takes long or nobody counts."""
        while not self._left.wait(max(self._pace.every / 2, 0.1)):
            self.look()

    def _end_stage(self) -> None:
        """Print the last line of a stage."""
        with self._lock:
            stage, self._stage = self._stage, None
            if stage is None:
                return
            self.end(stage.task)
            if stage.done > stage.task.first:
                self.tell(stage.task, over=True)

    def _print(self, text: str) -> None:
        soft = not breaks_between_words(self._console, text)
        self._console.print(Text(text), highlight=False, soft_wrap=soft)

    def _drawn(self) -> Group:
        """The stages that last, and the innermost task that takes its time."""
        with self._lock:
            shown, current = _lasting(self._tasks), self._current()
        if current is not None and current not in shown:
            shown.append(current)
        lines: list[RenderableType] = [_bar(task, self._console.width) for task in shown]
        if self._urgent:
            lines.append(Text(self._urgent, style="yellow", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


class _Pace:
    """Waits between plain lines: ever longer while nothing changes."""

    def __init__(self, every: float | int) -> None:
        self.every = every
        self._last, self._wait = "", 1
        """The last line without its time, and by how much the next waits if nothing changes."""

    def due(self, tasks: Sequence[Task], waited: float) -> bool:
        """Whether a line about these tasks is due so many seconds after the last one."""
        news = waited >= self.every and _amounts(tasks) != self._last
        return news or waited >= self.every * self._wait

    def printed(self, tasks: Sequence[Task]) -> None:
        """Count a line about these tasks."""
        amounts = _amounts(tasks)
        self._wait = min(2 * self._wait, STANDSTILL) if amounts == self._last else 1
        self._last = amounts


class StageProgress:
    """One stage of a run: count its steps with ``advance``."""

    def __init__(
        self, name: str, total: int | None, done: int, headlines: Sequence[str], shown: Progress
    ) -> None:
        self.name, self._headlines, self._progress = name, headlines, shown
        label = name.replace("_", " ")
        self.task = Task(label, total, done=done, first=done, lasting=True)
        self._shown: dict[str, float] = {}

    @property
    def done(self) -> int:
        """Steps behind it."""
        return self.task.done

    @property
    def total(self) -> int | None:
        """Steps in all; None where nobody knows."""
        return self.task.total

    def advance(self, metrics: Mapping[str, float], steps: int = 1) -> None:
        """One step further, with its metrics; numbers not measured now keep their last value."""
        self._shown |= {name: metrics[name] for name in self._headlines if name in metrics}
        shown = (name for name in self._headlines if name in self._shown)
        self.task.numbers = "  ".join(headline(name, self._shown[name]) for name in shown)
        first = self.done == self.task.first
        self.task.done += steps
        self._progress.stepped(self, first=first)


@contextlib.contextmanager
def shown(*, aside: bool = False) -> Generator[None, None, None]:
    """Inside, what takes a while is shown, by whoever shows progress already where there is one.

    ``aside``: on stderr, where what a command prints may be read by a program.
    """
    if listener() is not None:
        yield
        return
    with Progress(Console(stderr=aside)):
        yield


@contextlib.contextmanager
def starting(*, aside: bool = False) -> Generator[None, None, None]:
    """Inside, libraries are imported, which takes seconds."""
    with shown(aside=aside), task("starting"):
        yield


# ---- which tasks are told of


def _lasting(tasks: Sequence[Task]) -> list[Task]:
    """The stages."""
    return [task for task in tasks if task.lasting]


def _around(task: Task, tasks: Sequence[Task]) -> list[Task]:
    """The stage that lasts around a task, where there is one, and the task itself."""
    outer = [other for other in _lasting(tasks) if other is not task]
    return [task] if task.lasting or not outer else [outer[-1], task]


# ---- in words


def line(task: Task, *, over: bool = False) -> str:
    """A task in one line of plain text: ``sft 3/10 (30 %)  loss 1.2  12 s left``."""
    parts = [f"{task.label} {amount(task)}".rstrip(), task.numbers, "" if over else _time(task)]
    return "  ".join(part for part in parts if part)


def _amounts(tasks: Sequence[Task]) -> str:
    return "; ".join(f"{task.label} {amount(task)}" for task in tasks)


def amount(task: Task) -> str:
    """The amount done: ``3/10 rows (30 %)``, ``12.0/40.1 MB (30 %)``, ``1,200 rows``."""
    task.measure()
    done, total, unit = task.done, task.total, f" {task.unit}" if task.unit else ""
    if task.unit == "bytes":
        unit = " MB"
        number = f"{done / 1e6:,.1f}" + (f"/{total / 1e6:,.1f}" if total else "")
    else:
        number = f"{done:,}" + (f"/{total:,}" if total is not None else "")
    if total is None:
        return f"{number}{unit}" if done else ""
    share = "" if task.share in (None, 1.0) else f" ({math.floor(100 * (task.share or 0))} %)"
    return f"{number}{unit}{share}"


def _time(task: Task) -> str:
    """``12 s left``; before that is known, or where it never is, how long it has taken."""
    if task.total is not None and task.done >= task.total:
        return ""
    left = task.seconds_left
    return f"{duration(task.seconds)} so far" if left is None else f"{duration(left)} left"


def headline(name: str, value: float | int) -> str:
    """A metric as it is shown in passing: ``reward 0.52``, ``accuracy 71 %``, ``kl 3.1 nats``."""
    label = (
        name.replace("reward_heldout", "held-out")
        .replace("pass_at_1", "accuracy")
        .replace("_", " ")
        .replace("val ", "val. ")
    )
    if name in SHARES and math.isfinite(value):
        return f"{label} {percent(value)}"
    if name == "kl" and abs(value) < ROUNDING:
        value = 0.0
    if name in COUNTS:
        return f"{label} {value:,.0f}"
    return f"{label} {value:.3g}{UNITS.get(name, '')}"


# ---- in a terminal


def breaks_between_words(console: Console, text: str) -> bool:
    """Whether to break a long line between words: a person reads it, and no path is torn."""
    return console.is_terminal and all(len(word) < console.width for word in text.split())


def _draws(console: Console) -> bool:
    """Whether lines can be drawn anew there."""
    return console.is_terminal and not console.is_dumb_terminal


def _live(console: Console, drawn: Callable[[], RenderableType]) -> Live:
    """Bars that are drawn anew a few times a second."""
    return Live(
        console=console,
        get_renderable=drawn,
        refresh_per_second=4,
        transient=True,
        redirect_stderr=console.is_terminal,
    )


def _bar(task: Task, width: int) -> Table:
    """One line: label, bar, count and time; then numbers, as far as there is room.

    A few columns stay empty for the ^C that a terminal writes there by itself.
    """
    width -= len(" ^C")
    size = 24 if width >= 90 else 12 if width >= 60 else 0
    most = min(LABEL, width // 2)
    label = task.label if len(task.label) <= most else f"{task.label[: most - 1]}…"
    rest = "  ".join(part for part in (amount(task), _time(task), task.numbers) if part)
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, overflow="ellipsis", width=size or 1)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    room = max(width - len(label) - max(size, 1) - 3, 1)
    bar = ProgressBar(task.total, task.done, width=size, pulse=task.total is None) if size else ""
    grid.add_row(
        Text(label, style="bold"), bar, Text(rest if len(rest) <= room else f"{rest[: room - 1]}…")
    )
    return grid
