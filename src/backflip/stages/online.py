"""The third stage: raise the reward of the policy's answers under a KL leash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from backflip.algorithms.online.values import ValueSource
from backflip.algorithms.sft import SFT
from backflip.data.batches import Ragged
from backflip.data.collate import Fit, tokenize_demonstrations, tokenize_prompts
from backflip.data.records import Demonstration, Prompt
from backflip.data.stream import Batches
from backflip.errors import UserError
from backflip.functional.statistics import mean_interval
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.divergence import exact_kl
from backflip.models.heads import ValueModel
from backflip.models.load import load_tokenizer
from backflip.models.save import load_reward_model, save_policy
from backflip.reward.model import RewardModelSource
from backflip.reward.shaping import Shaped
from backflip.stages.context import Ground, basics, passes, total_steps
from backflip.stages.prompt_eval import Exam, Questions, Sitting, before_and_after
from backflip.stages.settings import PPORecipe, Pretraining
from backflip.stages.watcher import Watcher
from backflip.training.driver import Best, keep_batches, load_best
from backflip.training.online import (
    Critic,
    OnlineLoop,
    PretrainingMix,
    SharedValues,
)
from backflip.training.reference import check_same_vocabulary
from backflip.training.run_folder import RunFolder

__all__ = ["run_ppo"]

NOTHING_BETTER = "no checkpoint beat the start by held-out reward; the last weights are kept"


def run_ppo(recipe: PPORecipe, run: RunFolder, watcher: Watcher) -> dict[str, Any]:
    """Optimise, keep the best by held-out reward, write ``model/``, return before and after."""
    ground = Ground.of(recipe, watcher.say)
    cast = _Cast.of(ground, recipe)
    prompts, held = _prompts(ground, recipe)
    batches = Batches(
        prompts,
        size=recipe.prompts_per_step,
        seed=recipe.seed,
        epochs=passes(recipe),
        drop_last=len(prompts) >= recipe.prompts_per_step,
    )
    total = total_steps(recipe, batches.per_epoch)
    watcher.announce(recipe, cast.policy, rows=len(prompts), steps=total)
    loop = cast.loop(ground, recipe, total, run)
    modules = cast.modules(loop)
    judge = Shaped(cast.judge, recipe.shaping)
    exam = Exam(held, cast.sampler, judge, cast.reference, ground, watcher.log)
    before = exam.sit(0, write=run.latest_step() is None)
    best = _best(before) if recipe.best else None
    outcome = ground.drive(
        loop, batches, run=run, watcher=watcher, modules=modules, assess=exam.metrics, best=best
    )
    now, summary = outcome.steps, dict[str, Any](stopped=outcome.stopped)
    if best is not None:
        summary |= {"best_step": outcome.best_step or 0, "best_by": best.metric}
        now = load_best(run, modules) or now
        loop.sampler.sync(cast.policy)
        if outcome.best_step is None:
            watcher.say(NOTHING_BETTER)
    after = exam.at(now)
    save_policy(
        cast.policy, ground.tokenizer, run.path, dtype=ground.saved_dtype(cast.policy.model)
    )
    summary["missing_eos"] = recipe.shaping.missing_eos
    told = before_and_after(before, after)
    exact = exact_kl(cast.policy, cast.reference, after.answers.rollouts, recipe.token_budget)
    told |= mean_interval(exact, within=(0.0, math.inf)).named("kl_exact_after")
    return basics(outcome, cast.policy, len(prompts)) | summary | told


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
    def of(ground: Ground, recipe: PPORecipe) -> _Cast:
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

    def loop(self, ground: Ground, recipe: PPORecipe, total: int, run: RunFolder) -> OnlineLoop:
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
        self, ground: Ground, recipe: PPORecipe, updates: int, run: RunFolder
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


def _critic_from(ground: Ground, recipe: PPORecipe) -> ValueModel:
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


def _pretraining(ground: Ground, settings: Pretraining) -> PretrainingMix:
    records = ground.read(settings.source, Demonstration)
    fit = Fit(settings.max_length)
    data = ground.told(tokenize_demonstrations(records, ground.template, fit=fit))
    seed = ground.recipe.seed
    batches = Batches(data, size=settings.batch_size, seed=seed, epochs=None)
    return PretrainingMix(SFT(coef=settings.coef), batches)


def _prompts(ground: Ground, recipe: PPORecipe) -> tuple[Ragged[Any], Questions]:
    """(prompts to learn on, held-out prompts)."""
    train, held = ground.records(Prompt)
    if not held:
        raise UserError("PPO needs held-out prompts to judge it by: set data.held_out above 0")
    fit = ground.fit()
    data = ground.told(tokenize_prompts(train, ground.template, fit=fit))
    return data, Questions.of(ground, held, recipe.validation_prompts)
