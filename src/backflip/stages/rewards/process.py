"""A process reward model as a source of reward: it judges the steps of answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from backflip.models.load import load_tokenizer
from backflip.models.process import load_process_model
from backflip.reward.process import Form, ProcessReward
from backflip.stages.rewards.context import RewardContext, RewardSettings
from backflip.training.reference import check_same_vocabulary

__all__ = ["Process"]


@dataclass(frozen=True, kw_only=True)
class Process(RewardSettings):
    """A process reward model: a reward at the end of each step of an answer."""

    model: str | None = None
    """Folder of a process reward model, or of the run that trained it. Needed."""
    form: Form = "score"
    """score: P(good) of each step; gain: by how much a step changes it; mean: P(good) over the
    number of steps."""
    uses_policy: ClassVar[bool] = False
    reads_models: ClassVar[bool] = True

    def faults(self, where: str) -> Iterator[str]:
        if self.model is None:
            yield f"{where}.model is null: which process reward model? Set {where}.model=FOLDER."

    def build(self, given: RewardContext) -> ProcessReward:
        assert self.model is not None, "the recipe is checked before anything loads"
        context = given.context
        check_same_vocabulary(context.tokenizer, load_tokenizer(self.model), self.model)
        recipe, template = context.recipe, context.template
        model = load_process_model(self.model, precision=recipe.precision, template=template.source)
        model.model.requires_grad_(requires_grad=False)
        return ProcessReward(
            model=model, template=template, form=self.form, token_budget=recipe.token_budget
        )
