"""All recipes by the value of ``stage``."""

from __future__ import annotations

from backflip.laboratory.settings import OveroptimizationRecipe
from backflip.rounds.settings import IterativeRecipe
from backflip.stages.base import Recipe
from backflip.stages.chain import RLHFRecipe, SFTDirectRecipe, SFTOnlineRecipe
from backflip.stages.direct import DirectRecipe
from backflip.stages.online import OnlineRecipe
from backflip.stages.process_reward_model import ProcessRewardModelRecipe
from backflip.stages.reward_model import RewardModelRecipe
from backflip.stages.sft import SFTRecipe

__all__ = ["FAMILIES", "RECIPES", "Recipe"]

RECIPES: dict[str, type[Recipe]] = {
    "sft": SFTRecipe,
    "reward_model": RewardModelRecipe,
    "process_reward_model": ProcessRewardModelRecipe,
    "direct": DirectRecipe,
    "online": OnlineRecipe,
    "ppo": OnlineRecipe,
    "rlhf": RLHFRecipe,
    "sft_direct": SFTDirectRecipe,
    "sft_online": SFTOnlineRecipe,
    "iterative": IterativeRecipe,
    "overoptimization": OveroptimizationRecipe,
}
FAMILIES = ("direct", "online", "sft_direct", "sft_online", "iterative")
"""Stages of which several recipes are shipped, none of them under the stage's own name."""
