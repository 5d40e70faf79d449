"""What can be found wrong with a recipe before any weight is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from backflip.algorithms.ranges import Within, declared
from backflip.data.sources import HUB_NAME
from backflip.errors import UserError
from backflip.models.load import POLICIES, REWARD_MODELS, check_classifier, resolve
from backflip.models.smollm2 import NAME as SMOLLM2
from backflip.recipes.registry import Recipe
from backflip.rounds.rules import check_rounds
from backflip.rounds.settings import IterativeRecipe
from backflip.stages.chain import Chain
from backflip.stages.choices import NAMES
from backflip.stages.settings import DirectRecipe, PPORecipe, RewardModelRecipe, Stage
from backflip.stages.sources import check_readable
from backflip.stages.stream_rules import check_rounds_not_streamed, stream_problems
from backflip.training.run_folder import RunFolder


def check_recipe(recipe: Recipe) -> None:
    """Refuse what cannot end well: the cheap checks first, then files, then the run's folder.

    Raises:
        UserError: settings that contradict each other, data or a model that is not there, a folder
            that already holds a run.

    """
    if isinstance(recipe, IterativeRecipe):
        check_rounds(recipe)
        check_rounds_not_streamed([recipe.data, *(stage.data for stage, _ in stages_of(recipe))])
    for stage, prefix in stages_of(recipe):
        for problem in _problems(stage, prefix, alone=not prefix):
            raise UserError(problem)
    if isinstance(recipe, IterativeRecipe):
        named = [("data.source", recipe.data.source), ("data.validation", recipe.data.validation)]
        _check_readable([*named, *(("preferences", one) for one in recipe.preferences)], "")
    for stage, prefix in stages_of(recipe):
        _check_sources(stage, prefix)
        _check_models(stage, alone=not prefix)
    check_free(recipe.run)


def stages_of(recipe: Recipe) -> list[tuple[Stage, str]]:
    """The stages of a recipe, each with what stands before its settings' names."""
    if isinstance(recipe, Chain):
        return [(stage, f"{name}.") for name, stage in recipe.links()]
    return [(recipe, "")]


def check_free(run: Path) -> None:
    """Raises UserError where a run's folder is taken, or cannot be one."""
    if run.exists() and not run.is_dir():
        raise UserError(f"run={run} is a file. Give the name of a folder that is not there yet.")
    RunFolder(run).check_free()


def _problems(stage: Stage, prefix: str, *, alone: bool) -> Iterator[str]:
    yield from stream_problems(stage, prefix)
    if stage.data.validation is None and stage.data.held_out == 0 and _needs_held_out(stage):
        yield (
            f"{prefix}data.held_out is 0 and {prefix}data.validation null: nothing is left to "
            f"judge by. Set {prefix}data.held_out=0.1, or give {prefix}data.validation."
        )
    if isinstance(stage, RewardModelRecipe):
        yield from _out_of_bounds(stage.objective, f"{prefix}objective")
    if isinstance(stage, DirectRecipe):
        yield from _out_of_bounds(stage.objective, f"{prefix}objective")
        yield from _direct_problems(stage, prefix)
    if isinstance(stage, PPORecipe):
        yield from _out_of_bounds(stage.algorithm, f"{prefix}algorithm")
        yield from _ppo_problems(stage, prefix, alone=alone)


def _needs_held_out(stage: Stage) -> bool:
    return isinstance(stage, RewardModelRecipe | PPORecipe)


def _direct_problems(stage: DirectRecipe, prefix: str) -> Iterator[str]:
    objective = stage.objective
    name = NAMES[type(objective)]
    if stage.reference is not None and not objective.needs_reference:
        yield (
            f"{prefix}reference is {stage.reference}, but {name} compares with none. Leave it out, "
            "or set objective=dpo."
        )
    if stage.reference is not None and objective.reference_moves:
        yield (
            f"{prefix}reference is {stage.reference}, but the reference of {name} follows the "
            "policy itself. Leave it out, or set objective=dpo."
        )


def _ppo_problems(stage: PPORecipe, prefix: str, *, alone: bool) -> Iterator[str]:
    if alone and stage.reward_model is None:
        yield (
            "ppo needs a reward model: reward_model=FOLDER of a run of `backflip train "
            "reward_model`, or of any sequence classifier."
        )
    weight, name = stage.algorithm.vf_coef, f"{prefix}algorithm.vf_coef"
    if stage.critic == "shared" and weight == 0:
        yield f"critic: shared is never taught while {name} is 0. Set {name}=0.1."
    if stage.critic == "separate" and weight > 0:
        yield (
            f"{name} is {weight:g}, but {prefix}critic is separate, with an optimiser of its own. "
            f"Set {name}=0, or {prefix}critic=shared."
        )
    if stage.sampling.filters:
        yield (
            f"{prefix}sampling uses {', '.join(stage.sampling.filters)}: answers would be drawn "
            "from another distribution than the one that learns. Leave it out."
        )
    if stage.minibatches > stage.prompts_per_step:
        yield (
            f"{prefix}minibatches is {stage.minibatches}, but a round has only "
            f"{stage.prompts_per_step} prompts to share out. Lower it."
        )


def _out_of_bounds(algorithm: Any, prefix: str) -> Iterator[str]:
    for name, value, bounds in declared(algorithm, Within):
        if value is not None and value not in bounds:
            yield f"{prefix}.{name} is {value:g}; it must be {bounds}: {bounds.why}."
    for number, weight in enumerate(getattr(algorithm, "weights", ()), start=1):
        if not 0 < weight < math.inf:
            yield f"{prefix}.weights[{number}] is {weight:g}; it must be a number above 0."
    for number, term in enumerate(getattr(algorithm, "terms", ()), start=1):
        yield from _out_of_bounds(term, f"{prefix}.terms[{number}]")


def _check_sources(stage: Stage, prefix: str) -> None:
    """Read the first row of everything that lies on this machine."""
    named: list[tuple[str, str | None]] = [
        ("data.source", stage.data.source),
        ("data.validation", stage.data.validation),
    ]
    if isinstance(stage, RewardModelRecipe | DirectRecipe):
        named.append(("golden", stage.golden))
    if isinstance(stage, PPORecipe) and stage.pretraining is not None:
        named.append(("pretraining.source", stage.pretraining.source))
    _check_readable(named, prefix)


def _check_readable(named: Iterable[tuple[str, str | None]], prefix: str) -> None:
    for name, source in _given(named):
        if Path(source).expanduser().exists() or not HUB_NAME.fullmatch(source):
            try:
                check_readable(source)
            except UserError as error:
                raise UserError(f"{prefix}{name}: {error}") from error


def _check_models(stage: Stage, *, alone: bool) -> None:
    named: list[tuple[str, str | None]] = [("model", stage.model)]
    if isinstance(stage, RewardModelRecipe):
        named.append(("policy", stage.policy))
    if isinstance(stage, DirectRecipe):
        named.append(("reference", stage.reference))
    if isinstance(stage, PPORecipe):
        named.append(("reward_model", stage.reward_model))
    for name, model in _given(named):
        if model != SMOLLM2:
            try:
                resolve(model, of=REWARD_MODELS if name == "reward_model" else POLICIES)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
    if isinstance(stage, PPORecipe) and alone and stage.reward_model is not None:
        _check_judge(stage.reward_model)


def _check_judge(name: str) -> None:
    """A language model in the place of the reward model is found out by its config."""
    if name == SMOLLM2 or not Path(resolve(name, of=REWARD_MODELS)).is_dir():
        return
    try:
        check_classifier(name)
    except UserError as error:
        raise UserError(f"reward_model: {error}") from error


def _given(named: Iterable[tuple[str, str | None]]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in named if value is not None)
