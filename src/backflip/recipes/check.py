"""Faults of a recipe that can be found before any weight is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from backflip.data.sources import HUB_NAME
from backflip.distributed.joining import restarted
from backflip.errors import UserError
from backflip.models.load import POLICIES, REWARD_MODELS, check_classifier, resolve
from backflip.models.smollm2 import NAME as SMOLLM2
from backflip.stages.base import Recipe, Stage
from backflip.stages.sources import check_readable
from backflip.training.run_folder import RunFolder

__all__ = ["check_free", "check_recipe"]

JUDGES = ("reward", "gold")
"""Beginnings of settings that name models which score."""


def check_recipe(recipe: Recipe) -> None:
    """Refuse what cannot end well: the cheap checks first, then files, then the run's folder.

    Raises:
        UserError: settings that contradict each other, data or a model that is not there, a folder
            that already holds a run.

    """
    for fault in recipe.faults():
        raise UserError(fault)
    _check_readable(recipe.sources_named(), "")
    for stage, prefix in recipe.parts():
        _check_readable(stage.sources().items(), prefix)
        _check_models(stage, alone=prefix not in recipe.JUDGED)
    check_free(recipe.run)


def check_free(run: Path) -> None:
    """Raises UserError where a run's folder is taken, or cannot be one."""
    if restarted():  # the run that was begun is gone on with
        return
    if run.exists() and not run.is_dir():
        raise UserError(f"run={run} is a file. Give the name of a folder that is not there yet.")
    RunFolder(run).check_free()


def _check_readable(named: Iterable[tuple[str, str | None]], prefix: str) -> None:
    """Read the first row of everything that lies on this machine."""
    for name, source in _given(named):
        if Path(source).expanduser().exists() or not HUB_NAME.fullmatch(source):
            try:
                check_readable(source)
            except UserError as error:
                raise UserError(f"{prefix}{name}: {error}") from error


def _check_models(stage: Stage, *, alone: bool) -> None:
    for name, model in _given(stage.models().items()):
        if model == SMOLLM2:
            continue
        judges = name.startswith(JUDGES)
        try:
            place = resolve(model, of=REWARD_MODELS if judges else POLICIES)
            if judges and alone and Path(place).is_dir():
                check_classifier(model)  # a language model in its place shows in its config
        except UserError as error:
            raise UserError(f"{name}: {error}") from error


def _given(named: Iterable[tuple[str, str | None]]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in named if value is not None)
