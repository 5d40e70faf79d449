"""Faults of the laboratory's settings that show before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backflip.errors import UserError
from backflip.laboratory.courses import BIN
from backflip.models.load import POLICIES, REWARD_MODELS, check_classifier, resolve
from backflip.stages.rewards.context import is_python

__all__ = ["laboratory_faults"]


def laboratory_faults(recipe: Any) -> Iterator[str]:
    """Sentences on settings of the laboratory that do not go together.

    Raises UserError for a model that is not there.
    """
    yield from recipe.gold.faults("gold")
    terms = getattr(recipe.gold, "terms", (recipe.gold,))
    if recipe.gold.uses_policy or any(is_python(getattr(term, "path", "")) for term in terms):
        yield (
            "gold asks the policy, or is a function from Python, which no stage can be handed. "
            "Give a verifier, a reward model, or gold=my_gold.py:NAME."
        )
    if not recipe.labels:
        yield "labels is empty: no proxy would learn. Set labels=[100, 1000]."
    if len(set(recipe.labels)) < len(recipe.labels):
        yield f"labels is {list(recipe.labels)}, the same number twice; give each once."
    if recipe.online.steps is not None and recipe.online.steps < 2 * BIN:
        yield (
            f"online.steps is {recipe.online.steps}; a course has a point for every {BIN} steps, "
            f"and needs two. Set online.steps={2 * BIN} or more."
        )
    if recipe.online.environment is not None:
        yield "online.environment is set, and comparisons are of single answers. Leave it out."
    if recipe.online.gold is not None:
        yield "online.gold is set; the laboratory's gold is the one setting gold. Leave it out."
    for model in recipe.gold.scorers():
        try:
            resolve(model, of=REWARD_MODELS)
            check_classifier(model)
        except UserError as error:
            raise UserError(f"gold: {error}") from error
    for size in recipe.sizes:
        resolve(size, of=POLICIES)
