"""A language model as the source of reward: it grades answers in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from backflip.data.chat import ChatTemplate
from backflip.generate.engine import SamplingParams
from backflip.generate.torch.engine import TorchEngine
from backflip.models.load import load_causal, load_tokenizer
from backflip.reward.judge import PolicyJudge
from backflip.reward.protocol import RewardSource
from backflip.stages.rewards.context import SELF, RewardContext, RewardSettings

__all__ = ["Judge"]


@dataclass(frozen=True, kw_only=True)
class Judge(RewardSettings):
    """A language model that grades answers in words, from 0 to 5."""

    model: str = SELF
    """Folder or hub name; self: the policy grades its own answers."""
    samples: int = 3
    """Gradings of each answer, which are averaged (Yuan et al., 2024: 3)."""
    sampling: SamplingParams = field(
        default_factory=lambda: SamplingParams(max_tokens=256, temperature=0.7, top_p=0.9)
    )
    """How gradings are drawn."""

    reads_models: ClassVar[bool] = True

    @property
    def uses_policy(self) -> bool:
        return self.model == SELF

    def faults(self, where: str) -> Iterator[str]:
        if self.samples < 1:
            yield f"{where}.samples is {self.samples}; it must be 1 or more."

    def build(self, given: RewardContext) -> RewardSource:
        context, seed = given.context, given.context.recipe.seed
        how = {"samples": self.samples, "seed": seed, "reads": context.template}
        if self.model == SELF:
            engine: Any = given.engine
            params = context.sampling(self.sampling, engine.model)
            return PolicyJudge(engine=engine, template=context.template, params=params, **how)
        model = load_causal(self.model, precision=context.recipe.precision)
        tokenizer = load_tokenizer(self.model)
        template = ChatTemplate(tokenizer)
        engine = TorchEngine(model.requires_grad_(requires_grad=False), decode=tokenizer.decode)
        return PolicyJudge(engine=engine, template=template, params=self.sampling, **how)
