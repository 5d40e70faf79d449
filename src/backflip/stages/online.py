"""The third stage: raise the reward of the policy's answers under a KL leash."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import torch
from torch import nn

from backflip.algorithms.discover import ONLINE
from backflip.algorithms.online.one_step_ppo import OneStepPPO
from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.online.values import ValueSource
from backflip.algorithms.ranges import Usual
from backflip.algorithms.sft import SFT
from backflip.data.batches import Ragged
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit, Tokenized, tokenize_demonstrations, tokenize_prompts
from backflip.data.records import Demonstration, Prompt
from backflip.data.stream import Batches
from backflip.errors import UserError
from backflip.functional.kl import LARGE_KL
from backflip.functional.statistics import mean_interval
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.divergence import exact_kl
from backflip.models.heads import ValueModel
from backflip.models.load import load_tokenizer
from backflip.models.save import load_reward_model, save_policy
from backflip.reward.model import RewardModelSource
from backflip.reward.shaping import Shaped, Shaping
from backflip.stages.base import RunContext, Stage
from backflip.stages.choices import one_of
from backflip.stages.context import StageContext, basics
from backflip.stages.prompt_eval import Exam, Questions, Sitting, before_and_after
from backflip.stages.settings import Count, OptimizerSettings, Positive, Pretraining
from backflip.stages.watcher import Watcher
from backflip.training.driver import Best, Outcome, keep_batches, load_best
from backflip.training.online import (
    Critic,
    OnlineLoop,
    PretrainingMix,
    SharedValues,
)
from backflip.training.reference import check_same_vocabulary
from backflip.training.run_folder import RunFolder

__all__ = ["PPORecipe"]

if TYPE_CHECKING:
    OnlineAlgorithms: TypeAlias = PPO | OneStepPPO
else:
    OnlineAlgorithms = one_of(ONLINE)

NOTHING_BETTER = "no checkpoint beat the start by held-out reward; the last weights are kept"


class PPORecipe(Stage):
    """PPO: raise the reward of the policy's answers under a KL leash."""

    RATES: ClassVar[tuple[float, float]] = (5e-5, 3e-6)

    USUAL: ClassVar[tuple[Usual, ...]] = (
        Usual(1e-7, 1e-5, "1e-6 to 3e-6 for all weights", path="optimizer.lr", adapted=False),
        Usual(5e-6, 3e-4, "1e-5 to 1e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(0.7, 1.0, "0.7 to 1", path="sampling.temperature"),
        Usual(
            -math.inf,
            0.0,
            "−1 (Stiennon et al., 2020); above 0, rambling pays",
            path="shaping.missing_eos",
        ),
        Usual(0.0, math.inf, "0; below, length is paid for", path="shaping.length_penalty"),
        Usual(
            1.0, LARGE_KL, f"beyond {LARGE_KL:g} nats replies are seldom English", path="kl_stop"
        ),
    )
    STREAMS: ClassVar[bool] = False
    NEEDS_HELD_OUT: ClassVar[bool] = True

    stage: Literal["ppo"] = "ppo"
    """Which recipe this is."""
    reward_model: str | None = None
    """Folder of the reward model, or of the run that trained it. Needed."""
    algorithm: OnlineAlgorithms = PPO()
    """ppo, or one_step_ppo (advantage = reward − V(prompt))."""
    critic: Literal["separate", "shared"] = "separate"
    """A value model of its own, or a value head on the policy (then algorithm.vf_coef > 0)."""
    critic_init: Literal["reward_model", "policy"] = "reward_model"
    """Whose weights a separate critic starts from."""
    critic_optimizer: OptimizerSettings
    """How the weights of a separate critic move."""
    prompts_per_step: Count = 8
    """Prompts in one round of sampling."""
    answers_per_prompt: Count = 2
    """Answers to each of them."""
    minibatches: Count = 1
    """Optimiser steps in one pass over a round's answers."""
    sampling: SamplingParams = SamplingParams(max_tokens=48)
    """How answers are drawn."""
    max_rows: Count = 64
    """Answers drawn side by side: more is faster and takes more memory."""
    shaping: Shaping = Shaping()
    """What becomes of a score before it is a reward."""
    pretraining: Pretraining | None = None
    """InstructGPT's mix; null leaves it out."""
    kl_stop: Positive | None = LARGE_KL
    """KL from the reference, in nats an answer, at which the run stops; null never stops."""
    best: bool = True
    """Keep the weights with the highest held-out reward; the last ones if none beat the start."""
    validation_prompts: Count = 32
    """Held-out prompts answered at each validation."""

    # ---- rows

    @property
    def record(self) -> type[Prompt]:
        return Prompt

    @property
    def rows_per_step(self) -> int:
        return self.prompts_per_step

    @property
    def answers_per_row(self) -> int:
        return self.answers_per_prompt

    def tokenize(self, records: Sequence[Prompt], template: ChatTemplate) -> Tokenized[Any]:
        return tokenize_prompts(records, template, fit=self.fit)

    def per_epoch(self, rows: int) -> int:
        return max(rows // self.prompts_per_step, 1)

    # ---- checks

    def contradictions(self, prefix: str, *, alone: bool) -> Iterator[str]:
        if alone and self.reward_model is None:
            yield (
                "ppo needs a reward model: reward_model=FOLDER of a run of `backflip train "
                "reward_model`, or of any sequence classifier."
            )
        weight, name = self.algorithm.vf_coef, f"{prefix}algorithm.vf_coef"
        if self.critic == "shared" and weight == 0:
            yield f"critic: shared is never taught while {name} is 0. Set {name}=0.1."
        if self.critic == "separate" and weight > 0:
            yield (
                f"{name} is {weight:g}, but {prefix}critic is separate, with an optimiser of its "
                f"own. Set {name}=0, or {prefix}critic=shared."
            )
        if self.sampling.filters:
            yield (
                f"{prefix}sampling uses {', '.join(self.sampling.filters)}: answers would be drawn "
                "from another distribution than the one that learns. Leave it out."
            )
        if self.minibatches > self.prompts_per_step:
            yield (
                f"{prefix}minibatches is {self.minibatches}, but a round has only "
                f"{self.prompts_per_step} prompts to share out. Lower it."
            )

    def remarks(self, prefix: str) -> Iterator[str]:
        answers = self.prompts_per_step * self.answers_per_prompt // self.minibatches
        if answers < 8:
            yield (
                f"{prefix}prompts_per_step × answers_per_prompt / minibatches is {answers}: "
                "whitening over fewer than 8 answers is mostly noise."
            )
        if self.shaping.missing_eos is None:
            yield (
                f"{prefix}shaping.missing_eos is null: an answer that was cut off is judged as if "
                "it were whole, and the policy may learn never to stop."
            )
        if self.kl_stop is None:
            yield (
                f"{prefix}kl_stop is null: nothing ends the run when replies are no longer "
                "language."
            )

    def sources(self) -> dict[str, str | None]:
        mixed = {} if self.pretraining is None else {"pretraining.source": self.pretraining.source}
        return super().sources() | mixed

    def models(self) -> dict[str, str | None]:
        return super().models() | {"reward_model": self.reward_model}

    # ---- forecasts

    def rows_validated(self, held_out: int) -> int:
        return min(held_out, self.validation_prompts)

    def tokens_per_row(self, data: Any) -> float:
        """As if no answer ended by itself."""
        answers = self.answers_per_prompt * self.sampling.max_tokens
        return float(data.lengths.sum() + answers * len(data)) / len(data)

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        return [causal()] + ([ValueModel(causal())] if self.critic == "separate" else [])

    # ---- training

    def train(self, context: RunContext, watcher: Watcher) -> dict[str, Any]:
        """Optimise, keep the best by held-out reward, write ``model/``, return before and after."""
        run, ground = context.run, StageContext.of(self, watcher.say)
        cast = _Cast.of(ground, self)
        prompts, held = _prompts(ground, self)
        batches = Batches(
            prompts,
            size=self.prompts_per_step,
            seed=self.seed,
            epochs=self.passes,
            drop_last=len(prompts) >= self.prompts_per_step,
        )
        total = self.total(batches.per_epoch)
        watcher.announce(self, cast.policy, rows=len(prompts), steps=total)
        loop = cast.loop(ground, self, total, run)
        judge = Shaped(cast.judge, self.shaping)
        exam = Exam(held, cast.sampler, judge, cast.reference, ground, watcher.log)
        before = exam.sit(0, write=run.latest_step() is None)
        best = _best(before) if self.best else None
        outcome = ground.drive(
            loop,
            batches,
            run=run,
            watcher=watcher,
            modules=cast.modules(loop),
            assess=exam.metrics,
            best=best,
        )
        now, summary = self._kept(cast, loop, run, outcome, best, watcher)
        after = exam.at(now)
        dtype = ground.saved_dtype(cast.policy.model)
        save_policy(cast.policy, ground.tokenizer, run.path, dtype=dtype)
        told = before_and_after(before, after)
        exact = exact_kl(cast.policy, cast.reference, after.answers.rollouts, self.token_budget)
        told |= mean_interval(exact, within=(0.0, math.inf)).named("kl_exact_after")
        return basics(outcome, cast.policy, len(prompts)) | summary | told

    def _kept(
        self,
        cast: _Cast,
        loop: OnlineLoop,
        run: RunFolder,
        outcome: Outcome,
        best: Best | None,
        watcher: Watcher,
    ) -> tuple[int, dict[str, Any]]:
        """(step whose weights the policy has from now on, what the summary says of it)."""
        now, summary = outcome.steps, dict[str, Any](stopped=outcome.stopped)
        if best is not None:
            summary |= {"best_step": outcome.best_step or 0, "best_by": best.metric}
            now = load_best(run, cast.modules(loop)) or now
            loop.sampler.sync(cast.policy)
            if outcome.best_step is None:
                watcher.say(NOTHING_BETTER)
        return now, summary | {"missing_eos": self.shaping.missing_eos}


def _best(before: Sitting) -> Best:
    """The checkpoint to keep: by the head that was not optimised against, where there is one."""
    measured = before.metrics()
    name = "val_reward_heldout" if "val_reward_heldout" in measured else "val_reward"
    return Best(name, start=measured[name])


@dataclass(frozen=True)
class _Cast:
    """The roles of PPO."""

    policy: CausalPolicy
    reference: Any
    judge: RewardModelSource
    sampler: Sampler

    @staticmethod
    def of(ground: StageContext, recipe: PPORecipe) -> _Cast:
        assert recipe.reward_model is not None, "the recipe is checked before anything loads"
        reward_model = load_reward_model(
            recipe.reward_model, precision=recipe.precision, template=ground.template.source
        )
        reward_model.requires_grad_(requires_grad=False)
        theirs = load_tokenizer(recipe.reward_model)
        check_same_vocabulary(ground.tokenizer, theirs, recipe.reward_model)
        policy = CausalPolicy(
            ground.causal(),
            temperature=recipe.sampling.temperature,
            compute=ground.masters[1],
        )
        reference = policy.reference()
        if recipe.critic == "shared":
            policy.add_value_head()
        params = ground.sampling(recipe.sampling, policy.model)
        decode = ground.tokenizer.decode
        engine = TorchEngine(policy.model, max_rows=recipe.max_rows, decode=decode)
        sampler = Sampler(engine=engine, params=params, group_size=recipe.answers_per_prompt)
        return _Cast(policy, reference, RewardModelSource(reward_model), sampler)

    def loop(
        self, ground: StageContext, recipe: PPORecipe, total: int, run: RunFolder
    ) -> OnlineLoop:
        updates = total * recipe.algorithm.epochs * recipe.minibatches
        learner = ground.learner(self.policy, recipe.optimizer, updates)
        learner.on_skip = keep_batches(run)
        return OnlineLoop(
            learner=learner,
            reference=self.reference,
            sampler=self.sampler,
            reward=Shaped(self.judge, recipe.shaping),
            values=self._values(ground, recipe, updates, run),
            algorithm=recipe.algorithm,
            minibatches=recipe.minibatches,
            seed=recipe.seed,
            beside=_pretraining(ground, recipe.pretraining) if recipe.pretraining else None,
        )

    def _values(
        self, ground: StageContext, recipe: PPORecipe, updates: int, run: RunFolder
    ) -> ValueSource:
        if recipe.critic == "shared":
            return SharedValues(token_budget=recipe.token_budget)
        if recipe.critic_init == "policy":
            model = ValueModel(ground.causal(), compute=ground.masters[1])
        else:
            model = _critic_from(ground, recipe)
        learner = ground.learner(model, recipe.critic_optimizer, updates)
        learner.on_skip = keep_batches(run)
        return Critic(learner, value_eps=recipe.algorithm.value_eps)

    def modules(self, loop: OnlineLoop) -> dict[str, Any]:
        modules: dict[str, Any] = {"policy": self.policy}
        if isinstance(loop.values, Critic):
            modules["critic"] = loop.values.learner.model
        return modules


def _critic_from(ground: StageContext, recipe: PPORecipe) -> ValueModel:
    """A critic that starts by expecting the reward model's own normalised score."""
    assert recipe.reward_model is not None
    weights, compute = ground.masters
    template = ground.template.source
    judge = load_reward_model(recipe.reward_model, precision=weights, template=template)
    head = judge.score.weight[:1].detach() / judge.std[0]
    start = judge.mean[0] if judge.score.bias is None else judge.mean[0] - judge.score.bias[0]
    critic = ValueModel(ground.adapted(judge.trunk.model), head=head, compute=compute)
    with torch.no_grad():
        critic.value.bias.fill_(float(-start / judge.std[0]))
    return critic


def _pretraining(ground: StageContext, settings: Pretraining) -> PretrainingMix:
    records = ground.read(settings.source, Demonstration)
    fit = Fit(settings.max_length)
    data = ground.told(tokenize_demonstrations(records, ground.template, fit=fit))
    seed = ground.recipe.seed
    batches = Batches(data, size=settings.batch_size, seed=seed, epochs=None)
    return PretrainingMix(SFT(coef=settings.coef), batches)


def _prompts(ground: StageContext, recipe: PPORecipe) -> tuple[Ragged[Any], Questions]:
    """(prompts to learn on, held-out prompts)."""
    train, held = ground.records(Prompt)
    if not held:
        raise UserError("PPO needs held-out prompts to judge it by: set data.held_out above 0")
    data = ground.told(recipe.tokenize(train, ground.template))
    return data, Questions.of(ground, held, recipe.validation_prompts)
