"""All three stages in a chain: each is a run of its own inside the chain's folder."""

from __future__ import annotations

from typing import Any

from backflip.recipes.schema import PPORecipe, RewardModelRecipe, RLHFRecipe, SFTRecipe

__all__ = ["linked"]

Links = tuple[SFTRecipe, RewardModelRecipe, PPORecipe]


def linked(recipe: RLHFRecipe) -> Links:
    """The recipes of the three stages, each pointing at what those before it will have made."""
    sft = recipe.sft
    tuned = str(sft.run / "model")
    reward_model = _with(recipe.reward_model, model=tuned, policy=tuned)
    judged_by = str(recipe.reward_model.run / "model")
    return sft, reward_model, _with(recipe.ppo, model=tuned, reward_model=judged_by)


def _with(recipe: Any, **changes: Any) -> Any:
    return recipe.model_copy(update=changes)
