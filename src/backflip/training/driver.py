"""Takes a loop through its batches, so that nothing that happens on the way is lost.

Steps are numbered from 1: checkpoint, metrics and samples of step n are those after n steps.
A call on a folder that holds a checkpoint goes on from it. On a CPU the result is the same to the
last bit as without the interruption, as long as machine, versions and threads are the same.
"""

from __future__ import annotations

import dataclasses
import io
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from backflip.distributed.alike import check_rows
from backflip.distributed.world import here
from backflip.errors import Interrupted, UserError
from backflip.models.learnt import learnt
from backflip.progress import task
from backflip.training.checkpoints import Checkpoint, finite, restore, resume_command
from backflip.training.environment import note_environment
from backflip.training.learner import Work
from backflip.training.run_folder import RunFolder, write_atomically
from backflip.training.signals import Signals

__all__ = ["Best", "Outcome", "Plan", "drive", "keep_batches", "load_best"]

MOST_KEPT = 3
"""Skipped batches that stay in the run's folder: the newest."""

Metrics = Mapping[str, float]
Assess = Callable[[int], Metrics]
"""Validates after the step of this number; its metrics begin with ``val_``."""


@runtime_checkable
class Loop(Protocol):
    """A loop that can take a step: ``OfflineLoop``, ``OnlineLoop``."""

    def step(self, index: int, batch: Any, /) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


@runtime_checkable
class Stream(Protocol):
    """Batches that know where they stand, such as ``data.stream.Batches``."""

    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any, /) -> None: ...


@runtime_checkable
class Watch(Protocol):
    """Called with every step; a sentence is a reason to stop.

    Where they exist, these are called too: ``begin(step)`` before the first step and after a
    resumption, ``validated(step, metrics)`` with a validation apart from a step (before the first,
    or of a run that it has stopped), ``sync()`` before a checkpoint, ``state_dict()`` and
    ``load_state_dict(state)``.
    """

    def __call__(self, index: int, metrics: Metrics, loop: Any, /) -> str | None: ...


@dataclass(frozen=True)
class Best:
    """Which checkpoint to keep beside the newest ones."""

    metric: str
    higher: bool = True
    """Whether more is better."""
    start: float | None = None
    """The metric before the first step: no checkpoint is best that does not beat it."""

    def improved(self, metrics: Metrics, before: float | None) -> bool:
        """Whether the metric was measured and beats what it was at best; NaN never does."""
        value = metrics.get(self.metric, math.nan)
        if math.isnan(value):
            return False
        bar = self.start if before is None else before
        if bar is None or math.isnan(bar):
            return True
        return value > bar if self.higher else value < bar


@dataclass(frozen=True)
class Outcome:
    """Steps taken, the best of them, and the reason for stopping."""

    steps: int
    metrics: Metrics
    """Those of the last step, validation included."""
    best_step: int | None = None
    stopped: str | None = None
    """Why it ended before its last step, if it did."""
    best_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of one stage, and those after which it validates and saves."""

    stage: str
    """Name of the stage, such as ``sft``; a checkpoint of another stage is refused."""
    total: int | None
    """Number of steps; None goes on until the batches end, which is then validated."""
    eval_every: int = 0
    """Steps from one validation to the next; 0 validates after the last step only."""
    checkpoint_every: int = 50
    """Steps from one checkpoint to the next; 0 saves at the end only."""
    keep_last: int = 2
    """Newest checkpoints to keep."""
    best: Best | None = None
    """By which one more is kept."""
    validate_first: bool = False
    """Also before the first step, as step 0, of which ``watch.validated`` is told."""

    def validates(self, step: int) -> bool:
        return step == self.total or (self.eval_every > 0 and step % self.eval_every == 0)

    def saves(self, step: int) -> bool:
        return self.checkpoint_every > 0 and step % self.checkpoint_every == 0


def drive(
    loop: Loop,
    batches: Stream,
    plan: Plan,
    *,
    run: RunFolder,
    modules: Mapping[str, nn.Module],
    watch: Watch,
    assess: Assess | None = None,
) -> Outcome:
    """Take the steps of ``plan``, or those that are missing to it in a folder that has some.

    Args:
        loop: knows what a step is.
        batches: as many as there are steps.
        plan: how many steps, and after which of them to validate and save.
        run: where checkpoints go; locked meanwhile.
        modules: whose weights are saved, by a name that is a file name.
        watch: sees every step, and may stop the run.
        assess: validation; its metrics join those of the step.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the step was finished and saved.
        KeyboardInterrupt: a second SIGINT came; the last checkpoint stays.
        UserError: the disk is full, the folder is in use, or the checkpoint does not fit.

    """
    with run.locked():
        return _Driver(loop, batches, run, modules, watch, assess, plan).go()


@dataclass
class _Driver:
    loop: Loop
    batches: Stream
    run: RunFolder
    modules: Mapping[str, nn.Module]
    watch: Watch
    assess: Assess | None
    plan: Plan
    now: Outcome = field(default_factory=lambda: Outcome(0, {}))
    saved: int = 0
    """Step of the newest checkpoint."""

    def go(self) -> Outcome:
        here().once(lambda: note_environment(self.run))
        self._resume()
        begin = getattr(self.watch, "begin", None)
        if begin is not None:
            begin(self.now.steps)
        if self.plan.validate_first and self.now.steps == 0:
            self._tell_validated(0, self._validated(0))
        with Signals() as signals:
            stream = iter(self.batches)
            while self._goes_on():
                batch = next(stream, None)
                if batch is None:
                    self._end()
                    break
                self._step(batch)
                if _first(signals) is not None:
                    break
            self._save()
            if (signal := _first(signals)) is not None:
                raise Interrupted(self._farewell(signal))
        return self.now

    def _goes_on(self) -> bool:
        done = self.plan.total is not None and self.now.steps >= self.plan.total
        return not done and self.now.stopped is None

    def _step(self, batch: Any) -> None:
        step = self.now.steps + 1
        check_rows(f"rows in step {step}", batch)
        metrics = dict(self.loop.step(step, batch))
        validated = self.plan.validates(step)
        if validated:
            metrics |= self._validated(step)
        stopped = self.watch(step, metrics, self.loop) or getattr(self.loop, "over", None)
        stopped = here().tell(stopped)  # clocks of several processes differ
        if stopped is not None and not validated:
            last = self._validated(step)
            metrics |= last
            self._tell_validated(step, last)
        self.now = dataclasses.replace(self.now, steps=step, metrics=metrics, stopped=stopped)
        if self._note_best(metrics) or self.plan.saves(step):
            self._save()

    def _end(self) -> None:
        """The batches have ended: the last step is validated, unless more steps were asked for."""
        step = self.now.steps
        if self.plan.total is not None:
            raise UserError(
                f"{self.plan.stage}: the data ended after {step} of {self.plan.total} "
                "steps. Ask for fewer steps or more epochs."
            )
        if step and not self.plan.validates(step):
            last = self._validated(step)
            self._tell_validated(step, last)
            self.now = dataclasses.replace(self.now, metrics={**self.now.metrics, **last})
            self._note_best(self.now.metrics)

    def _validated(self, step: int) -> Metrics:
        return self.assess(step) if self.assess is not None else {}

    def _tell_validated(self, step: int, metrics: Metrics) -> None:
        if (tell := getattr(self.watch, "validated", None)) is not None:
            tell(step, metrics)

    def _note_best(self, metrics: Metrics) -> bool:
        best = self.plan.best
        if best is None or not best.improved(metrics, self.now.best_value):
            return False
        value = float(metrics[best.metric])
        self.now = dataclasses.replace(self.now, best_step=self.now.steps, best_value=value)
        return True

    def _save(self) -> None:
        """Write a checkpoint of where we are, unless there is one; then remove what is too old."""
        if self.saved == self.now.steps:
            return
        sync = getattr(self.watch, "sync", None)
        if sync is not None:
            sync()
        weights = {name: learnt(module) for name, module in self.modules.items()}
        about = {
            "stage": self.plan.stage,
            "best_step": self.now.best_step,
            "best_value": finite(self.now.best_value),
        }
        with task("saving a checkpoint"):
            self.run.checkpoints.save(self.now.steps, weights, self._state(), about)
        self.saved = self.now.steps
        best = () if self.now.best_step is None else (self.now.best_step,)
        here().once(
            lambda: self.run.checkpoints.retain(self.plan.keep_last, up_to=self.saved, also=best)
        )

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "outcome": dataclasses.asdict(self.now),
            "loop": self.loop.state_dict(),
            "batches": self.batches.state_dict(),
            "random": _random_state(),
        }
        watched = getattr(self.watch, "state_dict", None)
        if watched is not None:
            state["watch"] = watched()
        return state

    def _resume(self) -> None:
        checkpoint = self.run.checkpoints.latest()
        if checkpoint is None:
            return
        self._check_stage(checkpoint)
        for name, module in self.modules.items():
            restore(module, checkpoint.weights(name), checkpoint.path)
        state = checkpoint.state()
        self.loop.load_state_dict(state["loop"])
        self.batches.load_state_dict(state["batches"])
        load = getattr(self.watch, "load_state_dict", None)
        if load is not None and "watch" in state:
            load(state["watch"])
        self.now = Outcome(**state["outcome"])
        self.saved = checkpoint.step
        _set_random_state(state["random"])

    def _check_stage(self, checkpoint: Checkpoint) -> None:
        before = checkpoint.about["stage"]
        if before != self.plan.stage:
            raise UserError(
                f"{checkpoint.path} is of stage {before}, this is {self.plan.stage}. Give "
                "another folder, run=…"
            )

    def _farewell(self, name: str) -> str:
        of = "" if self.plan.total is None else f" of {self.plan.total}"
        return (
            f"{name}: stopped after step {self.now.steps}{of} and saved. "
            f"Go on with: {resume_command(self.run.path)}"
        )


def load_best(run: RunFolder, modules: Mapping[str, nn.Module]) -> int | None:
    """Put the weights of the best checkpoint into the modules; returns its step.

    Without a best checkpoint, or with a damaged one (a warning says so), the weights stay as they
    are and None is returned.
    """
    latest = run.checkpoints.latest()
    step = latest.about["best_step"] if latest is not None else None
    checkpoint = run.checkpoints.at(step) if step is not None else None
    if checkpoint is None:
        return None
    for name, module in modules.items():
        restore(module, checkpoint.weights(name), checkpoint.path)
    return checkpoint.step


def keep_batches(run: RunFolder) -> Callable[[int, tuple[Work, ...]], None]:
    """A callback for ``Learner.on_skip``: the work goes into kept_batches/, the newest three stay.

    A file is a plain dict of tensors, numbers and names: ``torch.load(path)`` reads it.
    """

    def keep(step: int, work: tuple[Work, ...]) -> None:
        pieces = [
            {
                "objective": repr(piece.objective),
                "kind": type(piece.batch).__name__,
                "batch": dataclasses.asdict(piece.batch),
            }
            for piece in work
        ]
        names = "_".join(type(piece.objective).__name__ for piece in work)
        content = io.BytesIO()
        torch.save({"step": step, "work": pieces}, content)
        folder = run.kept_batches_path
        if not here().leads:
            return
        try:
            folder.mkdir(exist_ok=True)
            write_atomically(folder / f"step_{step:06d}_{names}.pt", content.getvalue())
        except (OSError, UserError) as error:
            warnings.warn(f"a skipped batch could not be kept: {error}", stacklevel=2)
        for old in sorted(folder.glob("step_*.pt"))[:-MOST_KEPT]:
            old.unlink(missing_ok=True)

    return keep


def _first(signals: Signals) -> str | None:
    """A signal that came to any process."""
    return next((name for name in here().everyone(signals.first) if name is not None), None)


def _random_state() -> dict[str, Any]:
    """States of the generators of torch, Python and NumPy."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [[int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
