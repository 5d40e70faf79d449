"""The third stage: raise the reward of the policy's answers under a KL leash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from backflip.algorithms.sft import SFT
from backflip.algorithms.values import ValueSource
from backflip.data.batches import Ragged, Rollouts
from backflip.data.collate import Batches, Fit, tokenize_demonstrations, tokenize_prompts
from backflip.data.errors import UserError
from backflip.data.records import Demonstration, Messages, Prompt
from backflip.functional.statistics import bootstrap_mean, paired_difference
from backflip.generate.sampler import Sampler
from backflip.generate.torch_engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.heads import ValueModel
from backflip.models.load import load_tokenizer
from backflip.models.save import load_reward_model, save_policy
from backflip.recipes.ground import Ground, parameter_count, passes, same_tokens, total_steps
from backflip.recipes.schema import PPORecipe, Pretraining
from backflip.recipes.watcher import Watcher
from backflip.reward.model import RewardModelSource
from backflip.reward.shaping import Shaped
from backflip.reward.source import Judgement
from backflip.train.driver import Best, keep_batches, load_best
from backflip.train.online import (
    Critic,
    OnlineLoop,
    PretrainingMix,
    SharedValues,
    evaluate_all,
)
from backflip.train.run import RunFolder

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
    exam = _Exam(cast, held, recipe, watcher, ground)
    before = exam.sit(at=0, write=run.latest_step() is None)
    best = _best(before) if recipe.best else None
    outcome = ground.drive(
        loop, batches, run=run, watcher=watcher, modules=modules, assess=exam.metrics, best=best
    )
    summary = {"steps": outcome.steps, "stopped": outcome.stopped}
    if best is not None:
        summary["best_step"] = outcome.best_step or 0
        load_best(run, modules)
        loop.sampler.sync(cast.policy)
        if outcome.best_step is None:
            watcher.say(NOTHING_BETTER)
    after = exam.sit(at=outcome.steps, write=False)
    save_policy(cast.policy, ground.tokenizer, run.path)
    parameters, trainable = parameter_count(cast.policy)
    summary |= {"parameters": parameters, "trainable": trainable}
    summary["missing_eos"] = recipe.shaping.missing_eos
    return summary | _before_and_after(before, after)


def _best(before: _Sitting) -> Best:
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
        reward_model = load_reward_model(recipe.reward_model, precision=recipe.precision)
        reward_model.requires_grad_(requires_grad=False)
        same_tokens(ground.tokenizer, load_tokenizer(recipe.reward_model), recipe.reward_model)
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
    judge = load_reward_model(recipe.reward_model, precision=weights)
    head = judge.score.weight[:1].detach() / judge.std[0]
    critic = ValueModel(ground.adapted(judge.trunk.model), head=head, compute=compute)
    with torch.no_grad():
        critic.value.bias.fill_(float(-judge.mean[0] / judge.std[0]))
    return critic


def _pretraining(ground: Ground, settings: Pretraining) -> PretrainingMix:
    records = ground.read(settings.source, Demonstration)
    fit = Fit(settings.max_length)
    data = ground.told(tokenize_demonstrations(records, ground.template, fit=fit))
    seed = ground.recipe.seed
    batches = Batches(data, size=settings.batch_size, seed=seed, epochs=None)
    return PretrainingMix(SFT(coef=settings.coef), batches)


@dataclass(frozen=True)
class _Questions:
    """Held-out prompts, for the model and for people."""

    tokens: Ragged[Any]
    texts: list[str]


def _prompts(ground: Ground, recipe: PPORecipe) -> tuple[Ragged[Any], _Questions]:
    """(prompts to learn on, held-out prompts)."""
    train, held = ground.records(Prompt)
    if not held:
        raise UserError("PPO needs held-out prompts to judge it by: set data.held_out above 0")
    fit = ground.fit()
    data = ground.told(tokenize_prompts(train, ground.template, fit=fit))
    apart = tokenize_prompts(held, ground.template, fit=fit)
    tokens, kept = ground.told(apart), apart.kept[: recipe.validation_prompts]
    texts = [shown_prompt(held[i].messages) for i in kept]
    return data, _Questions(tokens[torch.arange(len(kept))], texts)


@dataclass(frozen=True)
class _Sitting:
    """How the policy did on the held-out prompts at one time."""

    rollouts: Rollouts
    judgement: Judgement
    kl: torch.Tensor
    texts: list[tuple[str, str]]

    def metrics(self) -> dict[str, float]:
        """Its means, as those of a validation."""
        metrics = {
            "val_reward": float(self.judgement.scores.mean()),
            "val_kl": float(self.kl.mean()),
            "val_length": float(self.rollouts.mask.sum(-1).float().mean()),
            "val_finished": float(self.rollouts.finished.float().mean()),
        }
        if "heldout" in self.judgement.parts:
            metrics["val_reward_heldout"] = float(self.judgement.parts["heldout"].mean())
        return metrics


@dataclass(frozen=True)
class _Exam:
    """Held-out prompts, answered with the same random numbers each time."""

    cast: _Cast
    prompts: _Questions
    recipe: PPORecipe
    watcher: Watcher
    ground: Ground

    def metrics(self, step: int) -> dict[str, float]:
        return self.sit(at=step, write=True).metrics()

    def sit(self, *, at: int, write: bool) -> _Sitting:
        """Answer, be judged, and, with ``write``, put the samples on record as of step ``at``."""
        cast, recipe = self.cast, self.recipe
        rollouts = replace(cast.sampler, group_size=1)(self.prompts.tokens, seed=recipe.seed)
        judgement = Shaped(cast.judge, recipe.shaping)(rollouts)
        budget = recipe.token_budget
        ref = evaluate_all(cast.reference, rollouts, {"logp"}, budget)["logp"]
        kl = torch.where(rollouts.mask, rollouts.logp - ref, 0.0).sum(-1)
        decode: Callable[[Any], str] = self.ground.tokenizer.decode
        answers = [plain(decode, a.tolist(), self.ground) for a in rollouts.steps.answer.rows()]
        texts = list(zip(self.prompts.texts, answers, strict=True))
        if write:
            scores = judgement.scores.tolist()
            self.watcher.log.samples(
                at,
                [
                    {"prompt": p, "answer": a, "score": s, "kl": k}
                    for (p, a), s, k in zip(texts, scores, kl.tolist(), strict=True)
                ],
            )
        return _Sitting(rollouts, judgement, kl, texts)


def plain(decode: Callable[[Any], str], tokens: list[int], ground: Ground) -> str:
    """An answer as people read it, without the token that ended it."""
    ends = set(ground.template.stop_tokens)
    return decode([t for t in tokens if t not in ends]).strip()


def shown_prompt(messages: Messages) -> str:
    """A prompt as people read it: the question alone, or the turns that led to it."""
    turns = [m for m in messages if m.role != "system"]
    if len(turns) == 1:
        return turns[0].content.strip()
    return "\n".join(f"{m.role}: {m.content.strip()}" for m in turns)


def _before_and_after(before: _Sitting, after: _Sitting) -> dict[str, Any]:
    """Rewards with their intervals, KL, and three prompts with both replies."""
    summary: dict[str, Any] = {
        "reward_before": _interval(before.judgement.scores),
        "reward_after": _interval(after.judgement.scores),
        "kl_before": float(before.kl.mean()),
        "kl_after": float(after.kl.mean()),
        "finished_before": float(before.rollouts.finished.float().mean()),
        "finished_after": float(after.rollouts.finished.float().mean()),
    }
    gain = paired_difference(after.judgement.scores, before.judgement.scores)
    summary["reward_gain"] = {"mean": gain.estimate, "low": gain.low, "high": gain.high}
    if "heldout" in after.judgement.parts:
        summary["reward_heldout_before"] = _interval(before.judgement.parts["heldout"])
        summary["reward_heldout_after"] = _interval(after.judgement.parts["heldout"])
    summary["examples"] = [
        {
            "prompt": before.texts[i][0],
            "before": before.texts[i][1],
            "after": after.texts[i][1],
            "score_before": float(before.judgement.scores[i]),
            "score_after": float(after.judgement.scores[i]),
        }
        for i in range(min(3, len(before.texts)))
    ]
    return summary


def _interval(scores: torch.Tensor) -> dict[str, float]:
    interval = bootstrap_mean(scores)
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high}
