"""From a recipe to a finished run: the only entry that the command line and Python share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

from backflip.data.errors import UserError
from backflip.monitor.progress import Progress
from backflip.monitor.report import write_report
from backflip.recipes.direct import run_direct
from backflip.recipes.load import parse, read_yaml, stage_in, to_yaml
from backflip.recipes.ppo import run_ppo
from backflip.recipes.reward_model import run_reward_model
from backflip.recipes.rlhf import linked
from backflip.recipes.schema import (
    STAGES,
    DirectRecipe,
    PPORecipe,
    Recipe,
    RewardModelRecipe,
    RLHFRecipe,
    SFTRecipe,
)
from backflip.recipes.sft import run_sft
from backflip.recipes.watcher import Watcher
from backflip.train.checkpoints import resume_command
from backflip.train.driver import Interrupted
from backflip.train.run import RunFolder

__all__ = ["resume", "train"]


def train(recipe: Recipe, *, progress: Progress | None = None) -> Path:
    """Run a recipe from the start; returns the run's folder.

    Raises:
        UserError: the folder already holds a run, or something is wrong with data or settings.
            Where that shows before the first step, the folder is left as it was.
        Interrupted: a signal came; the message says how to go on.

    """
    with _created(recipe) as run:
        return _with_progress(recipe, run, progress)


def resume(folder: Path, *, progress: Progress | None = None) -> Path:
    """Go on with a run that was interrupted, from its last whole checkpoint."""
    run = RunFolder.open(folder)
    raw = read_yaml(run.recipe_path)
    stage = stage_in(raw, run.recipe_path)
    del raw["stage"]
    recipe = parse({**raw, "run": str(folder)}, stage, str(run.recipe_path))
    if run.finished:
        raise UserError(f"{folder} is finished: its model is {folder}/model. Nothing to resume.")
    return _with_progress(recipe, run, progress)


@contextlib.contextmanager
def _created(recipe: Recipe) -> Generator[RunFolder, None, None]:
    """A new run's folder, which is gone again where a mistake shows before the first step."""
    was_there = recipe.run.exists()
    run = RunFolder.create(recipe.run, to_yaml(recipe))
    with run.locked():
        try:
            yield run
        except UserError:
            if not _begun(run):
                _undo(run, keep_folder=was_there)
            raise


def _begun(run: RunFolder) -> bool:
    """Whether there is a step to go on from, or, in a chain, a stage."""
    measured = run.metrics_path.is_file() and run.metrics_path.stat().st_size > 0
    stages = any(RunFolder.holds_run(run.path / name) for name in STAGES)
    return measured or stages or bool(run.checkpoints.steps())


def _undo(run: RunFolder, *, keep_folder: bool) -> None:
    """Remove what ``RunFolder.create`` wrote."""
    for path in (run.recipe_path, run.path / ".lock"):
        path.unlink(missing_ok=True)
    if not keep_folder and not any(run.path.iterdir()):
        run.path.rmdir()


def _with_progress(recipe: Recipe, run: RunFolder, progress: Progress | None) -> Path:
    if progress is not None:
        return _run(recipe, run, progress)
    with Progress() as bars:
        return _run(recipe, run, bars)


def _run(recipe: Recipe, run: RunFolder, progress: Progress) -> Path:
    try:
        with run.locked():
            if isinstance(recipe, RLHFRecipe):
                summary = _chain(recipe, progress)
            else:
                summary = _stage(recipe, run, progress)
            run.write_summary(summary)
    except KeyboardInterrupt as error:
        go_on = resume_command(run.path)
        raise Interrupted(f"interrupted; what was saved stays. Go on with: {go_on}") from error
    write_report(run.path)
    return run.path


def _chain(recipe: RLHFRecipe, progress: Progress) -> dict[str, Any]:
    """Run the stages that are not finished yet."""
    summary: dict[str, Any] = {}
    for stage in linked(recipe):
        if not RunFolder.holds_run(stage.run):
            with _created(stage) as run:
                _run(stage, run, progress)
        elif not (run := RunFolder.open(stage.run)).finished:
            _run(stage, run, progress)
        summary[stage.stage] = json.loads((stage.run / "summary.json").read_text())
    return summary


def _stage(recipe: Recipe, run: RunFolder, progress: Progress) -> dict[str, Any]:
    kl_stop = recipe.kl_stop if isinstance(recipe, PPORecipe) else None
    assert not isinstance(recipe, RLHFRecipe)
    watcher = Watcher(recipe, run, progress, kl_stop=kl_stop)
    try:
        if isinstance(recipe, SFTRecipe):
            return run_sft(recipe, run, watcher)
        if isinstance(recipe, RewardModelRecipe):
            return run_reward_model(recipe, run, watcher)
        if isinstance(recipe, DirectRecipe):
            return run_direct(recipe, run, watcher)
        return run_ppo(recipe, run, watcher)
    finally:
        watcher.close()
