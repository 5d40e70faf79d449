"""The environment's own rewards, as a source among others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from backflip.data.records import Prompt
from backflip.environments.reward import EnvironmentReward
from backflip.reward.protocol import RewardSource
from backflip.stages.rewards.context import RewardContext

__all__ = ["Environment"]


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Rewards of the environment, each on the turn that it comes in."""

    uses_policy: ClassVar[bool] = False
    whole_episodes: ClassVar[bool] = True

    def scorers(self) -> list[str]:
        return []

    def lacks(self, record: Prompt) -> str:
        del record
        return ""

    def faults(self, where: str) -> Iterator[str]:
        del where
        return iter(())

    def build(self, given: RewardContext) -> RewardSource:
        del given
        return EnvironmentReward()
