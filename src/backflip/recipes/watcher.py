"""Who looks at every step of a stage: writes it down, shows it, raises alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from backflip.models.load import parameter_count
from backflip.monitor.alarms import Alarms
from backflip.monitor.log import MetricsLog
from backflip.monitor.progress import Progress, StageProgress
from backflip.monitor.rules import default_rules
from backflip.monitor.trackers import open_trackers
from backflip.monitor.watch import experience_metrics
from backflip.recipes.schema import Stage
from backflip.train.online import OnlineLoop
from backflip.train.run import RunFolder

__all__ = ["Watcher"]


class Watcher:
    """Called after every step with its number and metrics; returns a reason to stop, or None."""

    def __init__(
        self,
        recipe: Stage,
        run: RunFolder,
        progress: Progress,
        *,
        kl_stop: float | None = None,
    ) -> None:
        trackers = open_trackers(recipe.trackers, run.path, recipe.model_dump(mode="json"))
        self.log = MetricsLog(run.path, trackers=trackers)
        self.stage = recipe.stage  # pyright: ignore
        self.progress = progress
        self.alarms = Alarms(default_rules(kl_stop=kl_stop))
        self.bar: StageProgress | None = None
        self.total = 0

    def say(self, sentence: str) -> None:
        """One line above the progress bar."""
        self.progress.say(sentence)

    def announce(self, recipe: Stage, model: nn.Module, *, rows: int, steps: int) -> None:
        """Say what is about to happen."""
        everything, trainable = parameter_count(model)
        how = f"LoRA rank {recipe.lora.rank}" if recipe.lora else "all weights"
        self.say(
            f"{self.stage.replace('_', ' ')}: {everything / 1e6:.0f} M parameters, "
            f"{trainable / 1e6:.1f} M trainable ({how}); {rows} rows, {steps} steps"
        )
        self.total = steps

    def begin(self, step: int) -> None:
        """A stage starts, or goes on after ``step`` steps: forget what was written beyond them."""
        self.log.truncate_after(step)
        self.alarms.replay(self.log.history)
        self.bar = self.progress.stage(self.stage, total=self.total, done=step)

    def __call__(self, index: int, metrics: Mapping[str, float], loop: Any) -> str | None:
        numbers = _with_spread(metrics)
        if isinstance(loop, OnlineLoop) and loop.last is not None:
            numbers = {**experience_metrics(loop.last.experience), **numbers}
            for name, part in loop.last.judgement.parts.items():
                label = "reward_heldout" if name == "heldout" else f"reward_{name}"
                numbers[label] = float(part.mean())
        self.log.append(index, self.stage, numbers)
        fired = self.alarms.check(self.log.history)
        self.log.alarms(fired)
        for alarm in fired:
            self.say(f"alarm at step {alarm.step}: {alarm.sentence}")
        if self.bar is not None:
            self.bar.advance(numbers)
        stops = [alarm.sentence for alarm in fired if alarm.severity == "stop"]
        return stops[0] if stops else None

    def validated(self, index: int, metrics: Mapping[str, float]) -> None:
        """The validation of the step at which a run was stopped: a line of its own."""
        self.log.append(index, self.stage, _with_spread(metrics))

    def sync(self) -> None:
        """Put on disk what a checkpoint relies on."""
        self.log.sync()

    def close(self) -> None:
        self.log.close()


def _with_spread(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics, with the standard deviation of scores in the place of their mean square."""
    numbers = dict(metrics)
    for prefix in ("", "val_"):
        square = numbers.pop(f"{prefix}score_mean_square", None)
        if square is not None:
            variance = square - numbers[f"{prefix}score_mean"] ** 2
            numbers[f"{prefix}score_std"] = math.sqrt(max(variance, 0.0))
    return numbers
