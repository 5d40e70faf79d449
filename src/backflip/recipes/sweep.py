"""One recipe for several values of a setting: a folder of runs, and what came of each.

``runs/NAME/`` holds ``sweep.yaml`` (the settings of every run, written first), a run for each
value, and ``sweep.json`` once all of them are finished. The reference of the direct family speaks
once: its cache serves all runs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backflip.distributed.joining import several
from backflip.errors import Interrupted, UserError
from backflip.monitor.progress import shown
from backflip.progress import Task, task
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe, parse, stage_in
from backflip.recipes.names import SWEEP, pairs, read_yaml
from backflip.recipes.registry import Recipe
from backflip.recipes.run import resume, train
from backflip.stages.settings import default_run
from backflip.stages.sources import one_moment
from backflip.training.checkpoints import resume_command
from backflip.training.run_folder import RunFolder, write_atomically

__all__ = ["Point", "points", "results", "resume_sweep", "train_sweep"]

MOST = 64
"""Runs in a sweep: more than that was a slip of the keyboard."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    """Its folder: ``objective.beta=0.1``."""
    settings: Mapping[str, Any]
    """Settings of its own."""
    recipe: Recipe


def train_sweep(
    name: str | Path,
    overrides: Sequence[str] | Mapping[str, Any],
    over: Sequence[str] | Mapping[str, Sequence[Any]],
    *,
    before: Callable[[Point], None] = lambda point: None,
) -> Path:
    """Run a recipe for every combination of values, one after the other; returns the folder.

    Args:
        name: of the recipe, or the path of a YAML file.
        overrides: settings that all runs share; ``run`` is the folder of the sweep.
        over: ``["objective.beta=0.05,0.1", …]``, or a mapping of dotted names to values.
        before: told of every run before it begins.

    Raises:
        UserError: a setting that is not known, a value that cannot be, a folder that is taken: all
            of it is found before the first run begins.
        Interrupted: a signal came; the message says how to go on.

    """
    _check_alone()
    given = pairs(overrides)
    folder = Path(given.pop("run", None) or default_run(f"{Path(name).stem}-sweep"))
    if (folder / SWEEP).exists() or RunFolder.holds_run(folder):
        raise UserError(
            f"{folder} already holds a sweep or a run. Give another folder, run=…, or go on: "
            f"backflip resume {folder}"
        )
    made = points(name, given, over, folder)
    for point in made:
        check_recipe(point.recipe)
    folder.mkdir(parents=True, exist_ok=True)
    said = {point.name: point.recipe.model_dump(mode="json") for point in made}
    own = {point.name: dict(point.settings) for point in made}
    text = yaml.safe_dump({"points": own, "recipes": said}, sort_keys=False, allow_unicode=True)
    write_atomically(folder / SWEEP, text)
    return _go_on(folder, made, before)


def resume_sweep(folder: Path, *, before: Callable[[Point], None] = lambda point: None) -> Path:
    """Go on with the runs that are not finished."""
    _check_alone()
    return _go_on(folder, _saved(folder), before)


def _check_alone() -> None:
    if several():
        raise UserError(
            "a sweep is started without torchrun: its runs take one process each. Start the runs "
            "that are to have several one by one, with torchrun."
        )


def results(folder: Path) -> list[tuple[Point, dict[str, Any]]]:
    """The summary of every run that is finished, in the order of the sweep."""
    found: list[tuple[Point, dict[str, Any]]] = []
    for point in _saved(folder):
        path = folder / point.name / "summary.json"
        if path.is_file():
            found.append((point, json.loads(path.read_text(encoding="utf-8"))))
    return found


def points(
    name: str | Path,
    shared: Mapping[str, Any],
    over: Sequence[str] | Mapping[str, Sequence[Any]],
    folder: Path,
) -> list[Point]:
    """Every combination of values as a recipe of its own."""
    axes = _axes(over)
    number = 1
    for values in axes.values():
        number *= len(values)
    if number > MOST:
        raise UserError(f"the sweep has {number} runs, and {MOST} is the most. Give fewer values.")
    made: list[Point] = []
    with one_moment():
        for values in itertools.product(*axes.values()):
            own = dict(zip(axes, values, strict=True))
            called = ",".join(f"{key}={_file_name(value)}" for key, value in own.items())
            settings = {**shared, **own, "run": str(folder / called)}
            made.append(Point(called, own, load_recipe(name, settings)))
    if len({point.name for point in made}) < len(made):
        raise UserError("a sweep has the same value twice; give each once.")
    return made


def _axes(over: Sequence[str] | Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    if isinstance(over, Mapping):
        axes = {key: list(values) for key, values in over.items()}
    else:
        axes = {key: values for text in over for key, values in [_axis(text)]}
    if not axes or any(not values for values in axes.values()):
        raise UserError("a sweep needs values: --sweep objective.beta=0.05,0.1,0.3")
    return axes


def _axis(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    try:
        read = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        read = None
    if not equals or not key or not read or key == "run":
        raise UserError(
            f"--sweep {text} is not a setting with values. Write KEY=VALUE,VALUE, as in "
            "--sweep objective.beta=0.05,0.1,0.3"
        )
    return key.strip(), read


def _file_name(value: Any) -> str:
    return "".join(c if c.isalnum() or c in "._-+" else "_" for c in str(value))


def _saved(folder: Path) -> list[Point]:
    raw = read_yaml(folder / SWEEP)
    if not (isinstance(raw.get("recipes"), dict) and isinstance(raw.get("points"), dict)):
        raise UserError(f"{folder / SWEEP} is damaged: it names no runs. Start the sweep anew.")
    made: list[Point] = []
    for name, said in raw["recipes"].items():
        stage = stage_in(said, folder / SWEEP)
        settings = {key: value for key, value in said.items() if key != "stage"}
        settings["run"] = str(folder / name)  # the folder may have moved
        made.append(Point(name, raw["points"][name], parse(settings, stage, f"{folder / SWEEP}")))
    return made


def _go_on(folder: Path, made: Sequence[Point], before: Callable[[Point], None]) -> Path:
    """Train what has not begun, resume what has, leave alone what is finished."""
    with shown(), task("sweep", len(made), "runs", lasting=True) as runs:
        for point in made:
            try:
                _train(point, before, runs)
            except Interrupted as error:
                raise Interrupted(
                    f"interrupted at {point.name}; what was saved stays. Go on with: "
                    f"{resume_command(folder)}"
                ) from error
    found = [{"name": p.name, "settings": dict(p.settings), **said} for p, said in results(folder)]
    write_atomically(folder / "sweep.json", json.dumps(found, ensure_ascii=False, indent=1))
    return folder


def _train(point: Point, before: Callable[[Point], None], runs: Task) -> None:
    """One run, as far as it is not finished; those that are do not count for the time left."""
    run = point.recipe.run
    if not RunFolder.holds_run(run):
        before(point)
        train(point.recipe)
    elif not RunFolder.open(run).finished:
        before(point)
        resume(run)
    else:
        runs.first += 1
    runs.advance()
