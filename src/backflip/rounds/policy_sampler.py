"""Policies and judges of a round: models on disk, loaded at their first use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.data.ragged import Ragged
from backflip.distributed.reading import evaluate_all
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import rollouts
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.load import load_causal, load_tokenizer
from backflip.reward.judge import PolicyJudge
from backflip.reward.protocol import RewardSource
from backflip.rounds.people import asks_people
from backflip.rounds.settings import PYTHON, SELF, IterativeRecipe, JudgeSettings
from backflip.stages.context import StageContext
from backflip.training.reference import check_same_vocabulary

__all__ = ["PolicySampler", "check_judge", "grader"]


@dataclass
class PolicySampler:
    """A policy on disk that answers prompts, and says how likely it finds answers."""

    context: StageContext
    model: str
    sampling: SamplingParams
    group_size: int = 1
    max_rows: int = 64

    @cached_property
    def policy(self) -> CausalPolicy:
        """The frozen policy, at its sampling temperature."""
        model = load_causal(self.model, precision=self.context.recipe.precision)
        model.requires_grad_(requires_grad=False)
        return CausalPolicy(model, temperature=self.sampling.temperature or 1.0)

    @cached_property
    def engine(self) -> TorchEngine:
        decode = self.context.tokenizer.decode
        return TorchEngine(self.policy.model, max_rows=self.max_rows, decode=decode)

    @cached_property
    def params(self) -> SamplingParams:
        """Sampling parameters with the template's stop tokens."""
        return self.context.sampling(self.sampling, self.policy.model)

    def __call__(self, prompts: Ragged[Any], *, seed: int, rows: Tensor | None = None) -> Rollouts:
        """Answers, each token with the policy's own log-probability, whatever filters drew it.

        Filters may be used here: nothing is weighed by policy over sampler.
        """
        asked = [prompt.tolist() for prompt in prompts.rows()]
        answers = self.engine.generate(asked, self.params, group=self.group_size, seed=seed)
        return rollouts(asked, answers, rows=rows)

    def forget(self) -> None:
        """Free the weights; they are loaded again when they are asked for."""
        for name in ("params", "engine", "policy"):
            self.__dict__.pop(name, None)

    def sync(self, policy: Any) -> None:
        """Answer with the weights that ``policy`` has now."""
        self.engine.sync(policy.model)

    def logp(self, said: Rollouts) -> Float[Tensor, "B T"]:
        """Log-probability of every token of the answers, in nats."""
        budget = self.context.recipe.token_budget
        return evaluate_all(self.policy, said, {"logp"}, budget)["logp"]


def grader(speaker: PolicySampler, settings: JudgeSettings, seed: int) -> RewardSource:
    """The policy as the judge of answers: it is asked for a grade in words."""
    context = speaker.context
    config: Any = speaker.policy.model.config
    positions = getattr(config, "max_position_embeddings", None)
    params = context.sampling(settings.sampling, speaker.policy.model)
    return PolicyJudge(
        engine=speaker.engine,
        template=context.template,
        params=params,
        samples=settings.samples,
        max_length=positions - params.max_tokens if positions else None,
        seed=seed,
    )


def check_judge(recipe: IterativeRecipe, context: StageContext, given: RewardSource | None) -> None:
    """Before anything is sampled: refuse a judge that is not there, or reads other tokens.

    Raises UserError.
    """
    name = recipe.judge.model if recipe.judge else None
    if name == PYTHON and given is None:
        raise UserError(
            f"{recipe.run} is judged by a function, which no file can hold. Hand it over in "
            f'Python: bf.train(…, judge=FUNCTION), or bf.resume("{recipe.run}", judge=FUNCTION).'
        )
    if name is not None and name not in (SELF, PYTHON) and not asks_people(name):
        check_same_vocabulary(context.tokenizer, load_tokenizer(_tokens_of(name)), name)


def _tokens_of(name: str) -> str:
    """The reward model of a chain, where a chain's folder is named."""
    inner = Path(name).expanduser() / "reward_model" / "model"
    return str(inner) if inner.is_dir() else name
