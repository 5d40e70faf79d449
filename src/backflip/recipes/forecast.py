"""Forecast of a recipe: a few real steps of every stage, reckoned up."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backflip.errors import UserError
from backflip.recipes.load import to_yaml
from backflip.recipes.trial import measured
from backflip.stages.base import Recipe
from backflip.stages.forecast import TRIAL_STEPS
from backflip.stages.plans import Plan, StageForecast

HEAD_ROOM = 0.9
"""Share of a machine's memory that a run may plan with."""
GB = 1e9


@dataclass(frozen=True)
class Forecast:
    """Time, memory and disk that a recipe will take."""

    stages: tuple[StageForecast, ...]
    seconds: float
    """All stages, with loading and saving."""
    memory_gb: float
    """Highest resident memory seen, in 10⁹ bytes."""
    disk_gb: float
    tokens: int
    money: float | None
    """In the currency of the price; None where none was given."""
    warnings: tuple[str, ...] = ()


def price_in(settings: Sequence[str]) -> float | None:
    """The hourly price among settings, as ``price=2.5``. Raises UserError for what is no number."""
    said = [text.removeprefix("price=") for text in settings if text.startswith("price=")]
    try:
        return float(said[-1]) if said else None
    except ValueError as error:
        raise UserError(
            f"price={said[-1]} is not a number. Give money per hour: price=2.5"
        ) from error


def forecast(recipe: Recipe, plans: Sequence[Plan], *, price: float | None = None) -> Forecast:
    """Run a few steps of every stage in a folder of its own, and reckon up from them.

    Args:
        recipe: what to forecast.
        plans: its ``plans()``.
        price: money per hour.

    Raises:
        UserError: a step failed; its own message is passed on.

    """
    with tempfile.TemporaryDirectory(prefix="backflip-") as name:
        folder = Path(name)
        trial = recipe.trial(folder)
        file = folder / "trial.yaml"
        file.write_text(to_yaml(trial), encoding="utf-8")
        wall, memory = measured(file, folder, trial.trial_steps)
        by_stage = recipe.forecasts(trial, plans)
    learning = sum(part.seconds for part in by_stage)
    around = max(wall - sum(part.seconds_per_step * TRIAL_STEPS for part in by_stage), 0.0)
    seconds, disk = learning + around, sum(part.disk_gb for part in by_stage)
    return Forecast(
        stages=tuple(by_stage),
        seconds=seconds,
        memory_gb=memory / GB,
        disk_gb=disk,
        tokens=sum(planned.tokens for planned in plans),
        money=None if price is None else price * seconds / 3600,
        warnings=tuple(_warnings(recipe, memory, disk)),
    )


def _warnings(recipe: Recipe, memory: float, disk_gb: float) -> Sequence[str]:
    """Sentences on memory or disk that the machine lacks."""
    found: list[str] = []
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory > HEAD_ROOM * there:
        found.append(
            f"memory reached {memory / GB:.1f} of {there / GB:.1f} GB. Lower token_budget, or set "
            "activation_checkpointing=true."
        )
    place = next(p for p in (recipe.run, *recipe.run.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if disk_gb * GB > free:
        found.append(
            f"the run will take {disk_gb:.1f} GB on the disk of {place}, which has {free / GB:.1f} "
            "left. Lower keep_last, or give run= on another disk."
        )
    return found
