"""From a recipe to a finished run: the only entry that the command line and Python share."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from backflip.distributed.joining import joined, restarted
from backflip.distributed.world import here
from backflip.errors import Interrupted, UserError
from backflip.models.load import model_folder
from backflip.monitor.progress import Progress
from backflip.monitor.report import write_report
from backflip.progress import listener
from backflip.recipes.alike import alike
from backflip.recipes.load import parse, stage_in, to_yaml
from backflip.recipes.model_card import write_card
from backflip.recipes.names import read_yaml
from backflip.recipes.registry import Recipe
from backflip.stages.base import RunContext
from backflip.stages.chain import STAGES
from backflip.training.checkpoints import resume_command
from backflip.training.run_folder import RunFolder

__all__ = ["resume", "train"]

Functions: TypeAlias = Mapping[str, Any]

ROUND = "round_"
"""Beginning of the names of rounds' folders."""


def train(
    recipe: Recipe, *, progress: Progress | None = None, functions: Functions | None = None
) -> Path:
    """Run a recipe from the start; returns the run's folder.

    ``functions``: from Python, by the settings that say ``python``: ``judge`` of rounds.

    Raises:
        UserError: the folder already holds a run, or something is wrong with data or settings.
            Where that shows before the first step, the folder is left as it was.
        Interrupted: a signal came; the message says how to go on.

    """
    _check_asked(recipe, functions or {})
    with joined():
        recipe = alike(recipe)
        if restarted() and (run := here().once(lambda: _begun_as(recipe))) is not None:
            return run.path if run.finished else _with_progress(recipe, run, progress, functions)
        with _created(recipe) as run:
            return _with_progress(recipe, run, progress, functions)


def _begun_as(recipe: Recipe) -> RunFolder | None:
    """The run that was begun by this recipe in its folder; None where there is none."""
    run = RunFolder(recipe.run)
    begun = RunFolder.holds_run(run.path)
    return run if begun and run.recipe_path.read_text() == to_yaml(recipe) else None


def resume(
    folder: Path, *, progress: Progress | None = None, functions: Functions | None = None
) -> Path:
    """Go on with a run that was interrupted, from its last whole checkpoint."""
    run = RunFolder.open(folder)
    if folder.parent.name.startswith(ROUND) and RunFolder.holds_run(folder.parent.parent):
        raise UserError(
            f"{folder} is part of a round, which hands it what it learns from. Go on with the "
            f"whole: {resume_command(folder)}"
        )
    raw = read_yaml(run.recipe_path)
    stage = stage_in(raw, run.recipe_path)
    del raw["stage"]
    recipe = parse({**raw, "run": str(folder)}, stage, str(run.recipe_path))
    if run.finished:
        made = model_folder(folder)
        raise UserError(f"{folder} is finished: its model is {made}. Nothing to resume.")
    _check_asked(recipe, functions or {})
    with joined():
        return _with_progress(alike(recipe), run, progress, functions)


def _check_asked(recipe: Recipe, functions: Functions) -> None:
    """Raises UserError for a reward from Python that the recipe would never ask."""
    said = recipe.model_dump(mode="json").get("reward")
    given = functions.get("reward")
    asked = given if isinstance(given, Mapping) else ["python"]
    if given is not None and not set(asked) <= set(map(str, _leaves(said))):
        raise UserError(
            f"reward is a function from Python, but the recipe says reward={said!r} and would "
            "never ask it. Leave it out, or say reward=python in the recipe."
        )


def _leaves(value: Any) -> list[Any]:
    """All that nested settings hold."""
    if isinstance(value, Mapping | list | tuple):
        inner = value.values() if isinstance(value, Mapping) else value
        return [leaf for entry in inner for leaf in _leaves(entry)]
    return [value]


@contextlib.contextmanager
def _created(recipe: Recipe) -> Generator[RunFolder, None, None]:
    """A new run's folder, which is gone again where a mistake shows before the first step."""
    was_there = recipe.run.exists()
    run = here().once(lambda: RunFolder.create(recipe.run, to_yaml(recipe)))
    with run.locked():
        try:
            yield run
        except UserError:
            if here().leads and not _begun(run):
                _undo(run, keep_folder=was_there)
            raise


def _begun(run: RunFolder) -> bool:
    """Whether there is a step to go on from, or, in a chain, a stage."""
    measured = run.metrics_path.is_file() and run.metrics_path.stat().st_size > 0
    stages = any(RunFolder.holds_run(run.path / name) for name in STAGES)
    rounds = any(run.path.glob(f"{ROUND}*/*"))
    return measured or stages or rounds or bool(run.checkpoints.steps())


def _undo(run: RunFolder, *, keep_folder: bool) -> None:
    """Remove what ``RunFolder.create`` wrote."""
    for path in (run.recipe_path, run.path / ".lock"):
        path.unlink(missing_ok=True)
    if not keep_folder and not any(run.path.iterdir()):
        run.path.rmdir()


def _with_progress(
    recipe: Recipe, run: RunFolder, progress: Progress | None, functions: Functions | None
) -> Path:
    progress = progress or _around()
    if progress is not None:
        return _run(recipe, run, progress, functions)
    with Progress() as bars:
        return _run(recipe, run, bars, functions)


def _around() -> Progress | None:
    """Who shows progress already: a run may be one of several."""
    found = listener()
    return found if isinstance(found, Progress) else None


def _run(
    recipe: Recipe,
    run: RunFolder,
    progress: Progress,
    functions: Functions | None = None,
    rows: Any = None,
) -> Path:
    """``rows``: to learn from in place of the recipe's data."""
    learn = functools.partial(_begin_or_go_on, progress=progress)
    try:
        with run.locked():
            summary = recipe.carry_out(RunContext(run, progress, learn, functions or {}, rows))
            here().once(lambda: _finish(run, recipe, summary))
    except KeyboardInterrupt as error:
        go_on = resume_command(run.path)
        raise Interrupted(f"interrupted; what was saved stays. Go on with: {go_on}") from error
    here().once(lambda: write_report(run.path))
    return run.path


def _finish(run: RunFolder, recipe: Recipe, summary: dict[str, Any]) -> None:
    write_card(run, recipe, summary)
    run.write_summary(summary)


def _begin_or_go_on(stage: Any, rows: Any = None, *, progress: Progress) -> dict[str, Any]:
    """The summary of a stage, which is trained as far as it is not."""
    begun, finished = here().once(lambda: _state(stage.run))
    if not begun:
        with _created(stage) as run:
            _run(stage, run, progress, rows=rows)
    elif not finished:
        _run(stage, RunFolder.open(stage.run), progress, rows=rows)
    return json.loads((stage.run / "summary.json").read_text())


def _state(folder: Path) -> tuple[bool, bool]:
    """(whether there is a run, whether it is finished)."""
    begun = RunFolder.holds_run(folder)
    return begun, begun and RunFolder.open(folder).finished
