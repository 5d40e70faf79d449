"""The watcher of a stage's steps: it logs them, shows them, raises alarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from backflip.distributed.world import here
from backflip.models.load import parameter_count
from backflip.monitor.alarms import Alarms
from backflip.monitor.log import ALARMS, MetricsLog, read_lines
from backflip.monitor.metrics import derived
from backflip.monitor.outcomes import givers, whole
from backflip.monitor.progress import Progress, StageProgress
from backflip.monitor.run import algorithm_of
from backflip.monitor.trackers import open_trackers
from backflip.monitor.views import title, view_of
from backflip.stages.actions import OnAlarm, acted
from backflip.stages.base import Stage
from backflip.text import counted, millions
from backflip.training.run_folder import RunFolder

__all__ = ["Watcher"]


class Watcher:
    """Called after every step with its number and metrics; returns a reason to stop, or None."""

    def __init__(
        self,
        recipe: Stage,
        run: RunFolder,
        progress: Progress,
    ) -> None:
        settings = recipe.model_dump(mode="json")
        trackers = open_trackers(recipe.trackers if here().leads else (), run.path, settings)
        self.log = MetricsLog(run.path, trackers=trackers)
        self.stage = recipe.stage  # pyright: ignore
        self.name = recipe.name
        self.view, self.title = view_of(self.stage), title(self.stage, algorithm_of(settings))
        self.progress = progress
        self.kl_stop = kl_stop = getattr(recipe, "kl_stop", None)
        self.on_alarm: OnAlarm = getattr(recipe, "on_alarm", None) or OnAlarm()
        self.alarms = Alarms(self.view.rules(kl_stop, 0))
        self.giving: set[str] = set()
        """Who has given verdicts in this run: see ``outcomes.givers``."""
        self.bar: StageProgress | None = None
        self.total: int | None = 0

    def say(self, sentence: str) -> None:
        """One line above the progress bar."""
        self.progress.say(sentence)

    def announce(
        self, recipe: Stage, model: nn.Module, *, rows: int | None, steps: int | None
    ) -> None:
        """Say what is about to happen; None is a number that nobody knows yet."""
        everything, trainable = parameter_count(model)
        how = f"LoRA rank {recipe.lora.rank}" if recipe.lora else "all weights"
        how += f" on a base in {recipe.quantization}" if recipe.quantization else ""
        self.say(
            f"{self.title}: {millions(everything)} parameters, "
            f"{millions(trainable)} trainable ({how}); "
            f"{'rows as they come' if rows is None else counted(rows, 'row')}, "
            f"{'steps to the end of the data' if steps is None else counted(steps, 'step')}"
        )
        self.total = steps

    def begin(self, step: int) -> None:
        """A stage starts, or goes on after ``step`` steps: forget what was written beyond them."""
        self.log.truncate_after(step)
        self.alarms = Alarms(self.view.rules(self.kl_stop, self.total or 0))
        self.alarms.replay(self.log.history)
        self.giving = {name for entry in self.log.history for name in givers(entry.metrics)}
        self.bar = self.progress.stage(
            self.name, total=self.total, done=step, headlines=self.view.headlines
        )

    def __call__(self, index: int, metrics: Mapping[str, float], loop: Any) -> str | None:
        numbers = {**self.view.measured(loop), **derived(metrics)}
        self.giving |= givers(numbers)
        numbers = whole(numbers, self.giving)
        self.log.append(index, self.stage, numbers)
        fired = self.alarms.check(self.log.history)
        self.log.alarms(fired)
        for alarm in fired:
            self.say(f"alarm at step {alarm.step}: {alarm.sentence}")
        if self.bar is not None:
            self.bar.advance(numbers)
        said, ended = acted(self.on_alarm, fired, loop)
        for line in said:
            self.say(f"  {line}")
        stops = [alarm.sentence for alarm in fired if alarm.severity == "stop"]
        return stops[0] if stops else ended

    def trusted_until(self) -> int | None:
        """The step of the first alarm that asks to go back to before it; None without one."""
        lines = read_lines(self.log.folder / ALARMS)
        asked = [a for a in lines if self.on_alarm.asked("roll_back", str(a.get("name")))]
        return min((int(alarm["step"]) for alarm in asked), default=None)

    def validated(self, index: int, metrics: Mapping[str, float]) -> None:
        """The validation before the first step, or where a run was stopped: a line of its own.

        One before the first step is written once, however often the run was begun.
        """
        if not (index == 0 and self.log.history):
            self.log.append(index, self.stage, derived(metrics))

    def sync(self) -> None:
        """Put on disk what a checkpoint relies on."""
        self.log.sync()

    def close(self) -> None:
        self.log.close()
