"""Reward models as sources of reward: one, or an ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from backflip.algorithms.ranges import Usual
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.models.load import load_tokenizer
from backflip.models.save import load_reward_model
from backflip.reward.ensemble import Combination, Ensemble
from backflip.reward.model import RewardModelSource
from backflip.reward.protocol import RewardSource
from backflip.stages.context import StageContext
from backflip.stages.rewards.context import RewardContext, RewardSettings
from backflip.training.reference import check_same_vocabulary

__all__ = ["EnsembleOfModels", "Model", "reward_model"]


@dataclass(frozen=True, kw_only=True)
class Model(RewardSettings):
    """A reward model, which reads whole answers."""

    model: str | None = None
    """Folder of a reward model, or of the run that trained it. Needed, outside of a chain."""
    combine: Combination = "mean"
    """Of a model with several members: their mean, the worst of them, or uncertainty: the mean less
    uncertainty_coef·variance."""
    uncertainty_coef: Annotated[float, Usual(0.01, 1.0, "0.1 (Coste et al., 2023)")] = 0.1
    """λ of ``combine: uncertainty``."""

    uses_policy: ClassVar[bool] = False
    reads_models: ClassVar[bool] = True

    def scorers(self) -> list[str]:
        return [self.model] if self.model else []

    def build(self, given: RewardContext) -> RewardSource:
        assert self.model is not None, "the recipe is checked before anything loads"
        how: dict[str, Any] = {"how": self.combine, "uncertainty_coef": self.uncertainty_coef}
        return reward_model(given.context, self.model, **how)


@dataclass(frozen=True, kw_only=True)
class EnsembleOfModels(RewardSettings):
    """Several reward models (Coste et al., 2023)."""

    models: tuple[str, ...] = ()
    """Folders of reward models, four or five of them."""
    combine: Combination = "mean"
    """The members' mean, the worst of them, or the mean less uncertainty_coef·variance."""
    uses_policy: ClassVar[bool] = False
    reads_models: ClassVar[bool] = True
    uncertainty_coef: Annotated[float, Usual(0.01, 1.0, "0.1 (Coste et al., 2023)")] = 0.1
    """λ of ``combine: uncertainty``."""

    def scorers(self) -> list[str]:
        return list(self.models)

    def faults(self, where: str) -> Iterator[str]:
        if len(self.models) < 2:
            yield (
                f"{where}.models has {len(self.models)} entries; an ensemble needs two "
                "reward models or more."
            )

    def build(self, given: RewardContext) -> RewardSource:
        members = [reward_model(given.context, model) for model in self.models]
        return Ensemble(members, self.combine, self.uncertainty_coef)


def reward_model(
    context: StageContext, name: str, how: Combination = "mean", *, uncertainty_coef: float = 0.1
) -> RewardSource:
    """A reward model on disk as a judge of tokens that are the policy's.

    Raises UserError where a single score is to be combined.
    """
    recipe = context.recipe
    check_same_vocabulary(context.tokenizer, load_tokenizer(name), name)
    template = context.template.source
    model = load_reward_model(name, precision=recipe.precision, template=template)
    if how != "mean" and model.members == 1:
        raise UserError(
            f"reward.combine is {how}, but {name} has one head that judges. Train it with "
            "members=5, or give reward={name: ensemble, models: […]}."
        )
    model.requires_grad_(requires_grad=False)
    return RewardModelSource(
        here().shard(model),
        token_budget=recipe.token_budget,
        how=how,
        uncertainty_coef=uncertainty_coef,
    )
