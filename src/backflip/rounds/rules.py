"""Faults of recipes of rounds that show before any weight is loaded, and unusual settings."""

from __future__ import annotations

from collections.abc import Iterator

from backflip.data.records import Labelled
from backflip.errors import UserError
from backflip.feedback.kinds.registry import kind_of
from backflip.models.load import REWARD_MODELS, check_classifier, resolve
from backflip.rounds.people import asks_people, labeller
from backflip.rounds.settings import PYTHON, SELF, IterativeRecipe
from backflip.stages.choices import NAMES

__all__ = ["round_faults", "unusual_rounds"]

MOST_NOISE = 16
"""Pairs in a round from which little but noise is learnt."""


def round_faults(recipe: IterativeRecipe) -> Iterator[str]:
    """Sentences on settings of the rounds that contradict each other.

    Raises UserError for a judge that is not there, or cannot judge what the rounds will ask.
    """
    yield from _problems(recipe)
    if any(data.streaming for data in (recipe.data, *(s.data for s, _ in recipe.parts()))):
        yield (
            "data.streaming is true, but rounds draw from all of their prompts. Set "
            "data.streaming=false, with data.limit where they do not fit in memory."
        )
    name = recipe.judge.model if recipe.judge else None
    if name in (None, SELF, PYTHON):
        return
    if asks_people(name):
        _check_people(recipe, name)
        return
    try:
        resolve(name, of=REWARD_MODELS)
        check_classifier(name)
    except UserError as error:
        raise UserError(f"judge: {error}") from error


def _check_people(recipe: IterativeRecipe, judge: str) -> None:
    """Raises UserError where people cannot judge what the rounds will ask."""
    try:
        with labeller(judge) as raters:
            kind, relative = raters.settings.kind, raters.relative
    except UserError as error:
        raise UserError(f"judge: {error}") from error
    if relative and recipe.pool and recipe.reward_model is None:
        raise UserError(
            f"pool is true, but in {judge} people tell the answers of one round apart: scores of "
            "several rounds mean different things. Set pool=false."
        )
    if relative and recipe.reward_model is None and recipe.answers_per_prompt < 2:
        raise UserError(
            f"answers_per_prompt is 1, and {judge} compares answers. Set it to 2 or more."
        )
    most = kind_of(kind).most
    if most and recipe.answers_per_prompt > most:
        raise UserError(
            f"answers_per_prompt is {recipe.answers_per_prompt}; people {kind} {most} at most."
        )


def _problems(recipe: IterativeRecipe) -> Iterator[str]:
    if recipe.judge is None and recipe.reward_model is None:
        yield (
            "rounds need somebody who judges: judge=FOLDER of a reward model (`backflip train "
            "reward_model` makes one), judge=self, judge=feedback:PROJECT for people, or from "
            "Python judge=FUNCTION."
        )
    if recipe.sft is None and recipe.direct is None:
        yield "rounds learn nothing: give the settings of sft, of direct, or of both."
    if recipe.data.validation is None and recipe.data.held_out == 0:
        yield (
            "data.held_out is 0 and data.validation null: no prompts are left to measure the "
            "rounds by. Set data.held_out=0.1, or give data.validation."
        )
    if recipe.direct is not None:
        yield from _direct_problems(recipe)
    if recipe.reward_model is not None:
        yield from _reward_model_problems(recipe)
    elif recipe.preferences:
        yield "preferences are for reward_model, which is null. Set it, or leave them out."
    if recipe.sampling.temperature == 0 and recipe.answers_per_prompt > 1:
        yield (
            "sampling.temperature is 0: all answers to a prompt would be the same, with nothing to "
            "choose. Set sampling.temperature=1."
        )


def _direct_problems(recipe: IterativeRecipe) -> Iterator[str]:
    assert recipe.direct is not None
    if recipe.answers_per_prompt < 2:
        yield ("answers_per_prompt is 1, and direct learns from comparisons. Set it to 2 or more.")
    objective = recipe.direct.objective
    if objective.learns_from is Labelled:
        yield (
            f"direct.objective is {NAMES[type(objective)]}, which learns from single labels; "
            "rounds make comparisons. Set direct.objective=dpo."
        )
    if recipe.direct.reference is not None:
        yield (
            f"direct.reference is {recipe.direct.reference}, but in rounds it is said by "
            "reference=previous or reference=first. Leave direct.reference out."
        )


def _reward_model_problems(recipe: IterativeRecipe) -> Iterator[str]:
    assert recipe.reward_model is not None
    if recipe.reward_model.data.source == recipe.data.source and not recipe.preferences:
        yield (
            f"reward_model.data is {recipe.data.source}, as are the prompts; a reward model learns "
            "from comparisons. Give reward_model.data, or preferences."
        )


def unusual_rounds(recipe: IterativeRecipe) -> Iterator[str]:
    """Sentences on settings that are allowed, but unusual in the literature."""
    if recipe.answers_per_prompt > 100:
        yield (
            f"answers_per_prompt is {recipe.answers_per_prompt}; the literature has 2 (online DPO) "
            "to 30 (Llama 3.1), 100 at most (Llama 2)."
        )
    if not 0.6 <= recipe.sampling.temperature <= 1.3:
        yield (
            f"sampling.temperature is {recipe.sampling.temperature:g}; the literature has 0.7 "
            "(Yuan et al., 2024) to 1.3 (Llama 2)."
        )
    if (few := recipe.prompts_per_round) is not None and few < MOST_NOISE:
        yield f"prompts_per_round is {few}: fewer than {MOST_NOISE} teach mostly noise."
    if recipe.filters.cut_off:
        yield (
            "filters.cut_off is true: answers that a length limit cut off may be chosen, and the "
            "policy may learn never to stop."
        )
    if recipe.start_from == "first" and not recipe.pool:
        yield (
            "start_from is first and pool false: what earlier rounds have found is thrown away. "
            "Set pool=true."
        )
