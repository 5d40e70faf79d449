"""From a recipe to a finished run: the only entry that the command line and Python share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backflip.data.errors import UserError
from backflip.monitor.progress import Progress
from backflip.monitor.report import write_report
from backflip.recipes.load import parse, read_yaml, to_yaml
from backflip.recipes.ppo import run_ppo
from backflip.recipes.reward_model import run_reward_model
from backflip.recipes.rlhf import linked
from backflip.recipes.schema import PPORecipe, Recipe, RewardModelRecipe, RLHFRecipe, SFTRecipe
from backflip.recipes.sft import run_sft
from backflip.recipes.watcher import Watcher
from backflip.train.run import RunFolder

__all__ = ["resume", "train"]


def train(recipe: Recipe, *, progress: Progress | None = None) -> Path:
    """Run a recipe from the start; returns the run's folder.

    Raises UserError where the folder already holds a run.
    """
    run = RunFolder.create(recipe.run, to_yaml(recipe))
    return _with_progress(recipe, run, progress)


def resume(folder: Path, *, progress: Progress | None = None) -> Path:
    """Go on with a run that was interrupted, from its last whole checkpoint."""
    run = RunFolder.open(folder)
    raw = read_yaml(run.recipe_path)
    stage = str(raw.pop("stage"))
    recipe = parse({**raw, "run": str(folder)}, stage, str(run.recipe_path))
    if run.finished:
        raise UserError(f"{folder} is finished: its model is {folder}/model. Nothing to resume.")
    return _with_progress(recipe, run, progress)


def _with_progress(recipe: Recipe, run: RunFolder, progress: Progress | None) -> Path:
    if progress is not None:
        return _run(recipe, run, progress)
    with Progress() as bars:
        return _run(recipe, run, bars)


def _run(recipe: Recipe, run: RunFolder, progress: Progress) -> Path:
    with run.locked():
        if isinstance(recipe, RLHFRecipe):
            summary = _chain(recipe, progress)
        else:
            summary = _stage(recipe, run, progress)
        run.write_summary(summary)
    write_report(run.path)
    return run.path


def _chain(recipe: RLHFRecipe, progress: Progress) -> dict[str, Any]:
    """Run the stages that are not finished yet."""
    summary: dict[str, Any] = {}
    for stage in linked(recipe):
        if RunFolder.holds_run(stage.run):
            run = RunFolder.open(stage.run)
        else:
            run = RunFolder.create(stage.run, to_yaml(stage))
        if not run.finished:
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
        return run_ppo(recipe, run, watcher)
    finally:
        watcher.close()
