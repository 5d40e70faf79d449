"""All three stages in a chain: each is a run of its own inside the chain's folder."""

from __future__ import annotations

from backflip.recipes.schema import PPORecipe, RewardModelRecipe, RLHFRecipe, SFTRecipe

__all__ = ["linked"]

Links = tuple[SFTRecipe, RewardModelRecipe, PPORecipe]


def linked(recipe: RLHFRecipe) -> Links:
    """The recipes of the three stages, each pointing at what those before it will have made."""
    sft = recipe.sft
    tuned = str(sft.run / "model")
    reward_model = recipe.reward_model.model_copy(update={"model": tuned, "policy": tuned})
    judge = str(recipe.reward_model.run / "model")
    ppo = recipe.ppo.model_copy(update={"model": tuned, "reward_model": judge})
    return sft, reward_model, ppo
