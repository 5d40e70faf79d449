"""All recipes by the value of ``stage``."""

from __future__ import annotations

from typing import TypeAlias

from backflip.rounds.settings import IterativeRecipe
from backflip.stages.chain import RLHFRecipe, SFTDirectRecipe
from backflip.stages.settings import DirectRecipe, PPORecipe, RewardModelRecipe, SFTRecipe

Recipe: TypeAlias = (
    SFTRecipe
    | RewardModelRecipe
    | DirectRecipe
    | PPORecipe
    | RLHFRecipe
    | SFTDirectRecipe
    | IterativeRecipe
)
RECIPES: dict[str, type[Recipe]] = {
    "sft": SFTRecipe,
    "reward_model": RewardModelRecipe,
    "direct": DirectRecipe,
    "ppo": PPORecipe,
    "rlhf": RLHFRecipe,
    "sft_direct": SFTDirectRecipe,
    "iterative": IterativeRecipe,
}
FAMILIES = ("direct", "sft_direct", "iterative")
"""Stages of which several recipes are shipped, none of them under the stage's own name."""
