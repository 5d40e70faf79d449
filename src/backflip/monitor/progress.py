"""How far a run is: bars in a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import rich.progress
from rich.console import Console
from rich.text import Text

HEADLINES: Mapping[str, Sequence[str]] = {
    "sft": ("loss", "val_loss"),
    "reward_model": ("loss", "accuracy", "val_accuracy"),
    "direct": ("loss", "accuracy", "val_accuracy", "margin"),
    "ppo": ("reward", "reward_heldout", "kl"),
}
"""What is worth a glance. Never a policy-gradient loss: on-policy it says nothing."""
ONLINE: Sequence[str] = ("reward", "reward_heldout", "kl")
UNITS: Mapping[str, str] = {"kl": " nats"}
SHARES = frozenset({"accuracy", "val_accuracy", "finished"})
ROUNDING = 1e-4
"""Nats, of either sign, that arithmetic leaves between a model and itself."""


class Progress:
    """The progress of a run of one or several stages.

    >>> with Progress(every=10.0) as progress:
    ...     stage = progress.stage("ppo", total=2)
    ...     stage.advance({"reward": 0.1, "kl": 0.0})
    """

    def __init__(self, console: Console | None = None, *, every: float | int = 10.0) -> None:
        """``every`` is the number of seconds between lines where there is no terminal."""
        self._console = console or Console()
        self._every = every
        self._bars = _bars(self._console) if self._console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def stage(self, name: str, *, total: int, done: int = 0) -> StageProgress:
        """Begin a stage of ``total`` steps, of which a resumed run has ``done`` behind it."""
        label = name.replace("_", " ")
        if self._bars is None:
            return StageProgress(name, total, done, self._print_now_and_then())
        task = self._bars.add_task(label, total=total, completed=done, numbers="")
        bars = self._bars

        def show(stage: StageProgress) -> None:
            bars.update(task, completed=stage.done, numbers=stage.numbers)

        return StageProgress(name, total, done, show)

    def say(self, sentence: str) -> None:
        """Print a line of its own above the bars, such as an alarm."""
        (self._bars.console if self._bars else self._console).print(Text(sentence))

    def _print_now_and_then(self) -> Callable[[StageProgress], None]:
        last = [-math.inf]

        def show(stage: StageProgress) -> None:
            now = time.monotonic()
            if now - last[0] >= self._every or stage.done >= stage.total:
                last[0] = now
                self._console.print(stage.line(), highlight=False, markup=False, soft_wrap=True)

        return show


class StageProgress:
    """One stage of a run: count its steps with ``advance``."""

    def __init__(
        self, name: str, total: int, done: int, show: Callable[[StageProgress], None]
    ) -> None:
        self.name, self.total, self.done = name, total, done
        self.numbers = ""
        self._show = show
        self._shown: dict[str, float] = {}
        self._first, self._began = done, time.monotonic()

    def advance(self, metrics: Mapping[str, float], steps: int = 1) -> None:
        """One step further, with its metrics; numbers not measured now keep their last value."""
        self.done += steps
        wanted = HEADLINES.get(self.name, ONLINE if "reward" in metrics else ("loss", "accuracy"))
        self._shown |= {name: metrics[name] for name in wanted if name in metrics}
        shown = (name for name in wanted if name in self._shown)
        self.numbers = "  ".join(headline(name, self._shown[name]) for name in shown)
        self._show(self)

    @property
    def seconds_left(self) -> float | None:
        """From the mean time of this session's steps; None before the first."""
        steps = self.done - self._first
        if steps <= 0:
            return None
        return (time.monotonic() - self._began) / steps * max(self.total - self.done, 0)

    def line(self) -> str:
        """The stage in one line of plain text."""
        left = self.seconds_left
        ahead = "" if left is None or self.done >= self.total else f"  {duration(left)} left"
        place = f"{self.name.replace('_', ' ')} {self.done}/{self.total}"
        return f"{place}  {self.numbers}{ahead}".rstrip()


def headline(name: str, value: float | int) -> str:
    """A metric as it is shown in passing: ``reward 0.52``, ``accuracy 71 %``, ``kl 3.1 nats``."""
    label = name.replace("reward_heldout", "held-out").replace("_", " ").replace("val ", "val. ")
    if name in SHARES and math.isfinite(value):
        return f"{label} {value:.0%}".replace("%", " %")
    if name == "kl" and abs(value) < ROUNDING:
        value = 0.0
    return f"{label} {value:.3g}{UNITS.get(name, '')}"


def duration(seconds: float | int) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {whole % 60} s"


def _bars(console: Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", style="bold"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        rich.progress.TextColumn("{task.fields[numbers]}", markup=False),
        console=console,
    )
