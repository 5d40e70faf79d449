"""A teacher as the source of reward: a language model that states log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.models.causal import CausalPolicy
from backflip.models.load import load_causal, load_tokenizer
from backflip.reward.protocol import RewardSource
from backflip.reward.teacher import Teacher
from backflip.stages.rewards.context import RewardContext, RewardSettings
from backflip.training.reference import check_same_vocabulary

__all__ = ["TeacherModel"]


@dataclass(frozen=True, kw_only=True)
class TeacherModel(RewardSettings):
    """log teacher − log π of each token, by a language model with the policy's tokenizer."""

    model: str | None = None
    """Folder or hub name of the teacher. Needed."""
    uses_policy: ClassVar[bool] = False
    reads_models: ClassVar[bool] = True
    whole_episodes: ClassVar[bool] = True

    def faults(self, where: str) -> Iterator[str]:
        if self.model is None:
            yield f"{where}.model is needed: the folder or hub name of the teacher."

    def build(self, given: RewardContext) -> RewardSource:
        assert self.model is not None, "the recipe is checked before anything loads"
        recipe: Any = given.context.recipe
        check_same_vocabulary(given.context.tokenizer, load_tokenizer(self.model), self.model)
        model = load_causal(self.model, precision=recipe.precision).requires_grad_(
            requires_grad=False
        )
        policy = CausalPolicy(model, temperature=recipe.sampling.temperature)
        return Teacher(policy, token_budget=recipe.token_budget)
