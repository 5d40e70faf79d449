"""The environment's own rewards, as a source among others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backflip.environments.reward import EnvironmentReward
from backflip.reward.protocol import RewardSource
from backflip.stages.rewards.context import RewardContext, RewardSettings

__all__ = ["Environment"]


@dataclass(frozen=True, kw_only=True)
class Environment(RewardSettings):
    """Rewards of the environment, each on the turn that it comes in."""

    uses_policy: ClassVar[bool] = False
    whole_episodes: ClassVar[bool] = True

    def build(self, given: RewardContext) -> RewardSource:
        del given
        return EnvironmentReward()
