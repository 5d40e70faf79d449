"""How many raters and items a reward model needs: ``backflip collect --power``, before anybody is
asked, or with what a project already knows of its raters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from backflip.errors import UserError
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.project import Project
from backflip.feedback.statistics.consensus import Consensus
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.power import Learner, Plan, dimensions_from_pilot, plans
from backflip.feedback.statistics.raters import rater_reports
from backflip.feedback.statistics.simulate import Population

FEWEST = 30
"""Judgements of a project from which on its raters are known."""


@dataclass(frozen=True)
class Assumptions:
    """Assumptions of the plan; each may be given as KEY=VALUE."""

    reliability: float = 0.8
    """Chance that a rater takes the better answer, above 0.5."""
    ties: float = 0.1
    """Chance of a tie where both are equally good."""
    seconds: float = 60.0
    """Of one answer."""
    raters: int = 20
    """How many there are; no item can have more."""
    ceiling: float = 0.9
    """Accuracy of the model with labels without end: what it can know of an answer."""
    dimensions: float = 100.0
    """Directions that the model must learn; a pilot tells better."""
    pilot_items: int = 0
    """Items of a pilot, whose accuracy says how many dimensions there are."""
    pilot_accuracy: float = 0.0
    """Accuracy on gold of a model that learnt from the pilot."""
    pilot_raters: int = 1
    """Raters of an item of the pilot."""

    @property
    def piloted(self) -> bool:
        return self.pilot_items > 0


def assumed(given: Mapping[str, Any], project: Project | None = None) -> Assumptions:
    """Assumptions from KEY=VALUE, and of the raters from a project that knows them.

    Raises UserError for what is unknown, no number, or impossible.
    """
    kinds = {one.name: type(one.default) for one in fields(Assumptions)}
    for name, value in given.items():
        if name not in kinds:
            raise UserError(f"nothing is assumed of {name!r}. There are: {', '.join(kinds)}.")
        whole = kinds[name] is int
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise UserError(f"{name}={value}: give a {'whole number' if whole else 'number'}.")
    seen = {} if project is None else _seen(project)
    made = replace(Assumptions(), **{**seen, **given})
    _check(made)
    return made


def _check(made: Assumptions) -> None:
    wrong = {
        "reliability": not 0.5 < made.reliability < 1,
        "ties": not 0 <= made.ties < 1,
        "seconds": not made.seconds > 0,
        "raters": made.raters < 1,
        "ceiling": not 0.5 < made.ceiling < 1,
        "dimensions": made.dimensions < 2,
        "pilot_accuracy": made.piloted and not 0.5 < made.pilot_accuracy < made.ceiling,
        "pilot_raters": made.pilot_raters < 1,
    }
    for name, bad in wrong.items():
        if bad:
            raise UserError(f"{name}={getattr(made, name)} is impossible. {RANGES[name]}")
    if made.pilot_accuracy and not made.piloted:
        raise UserError("how many items had the pilot? Give pilot_items=… with pilot_accuracy=….")


RANGES = {
    "reliability": "Give more than 0.5, a coin, and less than 1.",
    "ties": "Give 0 or more and less than 1.",
    "seconds": "Give more than 0.",
    "raters": "Give 1 or more.",
    "ceiling": "Give more than 0.5, a coin, and less than 1.",
    "dimensions": "Give 2 or more.",
    "pilot_accuracy": "It lies above 0.5 and below ceiling=….",
    "pilot_raters": "Give 1 or more.",
}


def _seen(project: Project) -> dict[str, Any]:
    """Reliability, ties, pace and number of a project's raters. Raises UserError."""
    if not kind_of(project.settings.kind).sides:
        raise UserError(
            f"{project.name} asks for {project.settings.kind!r}, and the sums are of pairs: leave "
            "the project out, and say reliability=…."
        )
    judgements = project.judgements()
    said = judgements.said()
    if len(said) < FEWEST:
        raise UserError(
            f"{project.name} has {len(said)} judgements; from {FEWEST} on its raters are known. "
            "Leave it out, and say reliability=…."
        )
    return _habits(judgements, said)


def _habits(judgements: Judgements, said: Judgements) -> dict[str, Any]:
    """Each judgement counts the same, so that a rater with three counts little."""
    right = np.array([one["reliability"] or np.nan for one in Consensus(judgements).raters()])
    medians = [report.pace.median for report in rater_reports(judgements)]
    count = np.bincount(said.rater, minlength=said.raters)
    known = ~np.isnan(right) & (count > 0)
    found: dict[str, Any] = {
        "reliability": float(np.average(right[known], weights=count[known])),
        "ties": float((said.value == 0).mean()),
        "raters": int((count > 0).sum()),
    }
    timed = [pace for pace in medians if np.isfinite(pace)]
    return found | ({"seconds": float(np.median(timed))} if timed else {})


def planned(wished: float, made: Assumptions) -> tuple[list[Plan], float]:
    """Ways to reach an accuracy on gold, fewest answers first, and the dimensions that were used.

    Raises UserError where no number of items is enough.
    """
    population = replace(
        Population.uniform(made.raters, reliability=made.reliability),
        ties=np.full(made.raters, made.ties),
        seconds=np.full(made.raters, made.seconds),
    )
    dimensions = made.dimensions
    if made.piloted:
        dimensions = dimensions_from_pilot(
            population,
            made.ceiling,
            made.pilot_accuracy,
            made.pilot_items,
            raters_per_item=made.pilot_raters,
        )
    if not 0.5 < wished < 1:
        raise UserError(f"--power {wished:g}: give an accuracy above 0.5, a coin, and below 1.")
    found = plans(population, Learner(dimensions, made.ceiling), wished)
    if not found:
        raise UserError(
            f"no number of items reaches {wished:.1%}: with labels without end the model reaches "
            f"{made.ceiling:.1%} (ceiling={made.ceiling:g}). Wish for less, or for a better model."
        )
    return found, dimensions
