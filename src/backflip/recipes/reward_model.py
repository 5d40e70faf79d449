"""The second stage: learn from comparisons what people prefer."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from backflip.data.batches import ComparisonBatch, TokenSteps
from backflip.data.collate import Batches, tokenize_comparisons, with_head
from backflip.data.records import Comparison
from backflip.data.splits import half_of
from backflip.evaluate.reward_model import evaluate_reward_model
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch_engine import TorchEngine
from backflip.models.heads import RewardModel
from backflip.models.load import load_causal, parameters_of
from backflip.models.save import save_reward_model
from backflip.recipes.ground import Ground, parameter_count, passes, total_steps
from backflip.recipes.schema import RewardModelRecipe
from backflip.recipes.watcher import Watcher
from backflip.reward.model import score_all
from backflip.train.driver import drive, keep_batches
from backflip.train.offline import OfflineLoop, assess
from backflip.train.run import RunFolder

__all__ = ["run_reward_model"]

PROBES = 64
"""Prompts on whose answers, by the policy, the scale of the scores is set."""


def run_reward_model(recipe: RewardModelRecipe, run: RunFolder, watcher: Watcher) -> dict[str, Any]:
    """Train, set the scale, write ``model/``, return the held-out report."""
    ground = Ground.of(recipe, watcher.say)
    train, held = ground.records(Comparison)
    data = _tokens(ground, train, held_out_head=recipe.held_out_head)
    held_out = _tokens(ground, held, held_out_head=False) if held else None
    heads = 2 if recipe.held_out_head else 1
    model = RewardModel(ground.causal(), heads=heads, pooling=recipe.pooling)
    batches = Batches(data, size=recipe.batch_size, seed=recipe.seed, epochs=passes(recipe))
    total = total_steps(recipe, batches.per_epoch)
    watcher.announce(recipe, model, rows=len(data), steps=total)
    learner = ground.learner(model, recipe.optimizer, total)
    learner.on_skip = keep_batches(run)

    def validate(step: int) -> dict[str, float]:
        del step
        if held_out is None:
            return {}
        return assess(recipe.objective, model, held_out, recipe.token_budget)

    outcome = drive(
        OfflineLoop(learner, recipe.objective),
        batches,
        run=run,
        stage="reward_model",
        total=total,
        modules={"reward_model": model},
        watch=watcher,
        assess=validate,
        eval_every=recipe.eval_every,
        checkpoint_every=recipe.checkpoint_every,
        keep_last=recipe.keep_last,
    )
    if recipe.normalise:
        answers = _answers_for_scale(ground, recipe, held_out if held_out is not None else data)
        model.normalise(score_all(model, answers, recipe.token_budget, raw=True))
    save_reward_model(model, ground.tokenizer, run.path)
    parameters, trainable = parameter_count(model)
    summary = {"steps": outcome.steps, "rows": len(data)}
    summary |= {"parameters": parameters, "trainable": trainable}
    return summary | _report(ground, recipe, model, held_out)


def _tokens(ground: Ground, records: list[Comparison], *, held_out_head: bool) -> ComparisonBatch:
    tokenized = tokenize_comparisons(records, ground.template, fit=ground.fit())
    data = ground.told(tokenized)
    if not held_out_head:
        return data
    halves = [half_of(records[i], seed=ground.recipe.seed) for i in tokenized.kept]
    return with_head(data, torch.tensor(halves))


def _answers_for_scale(
    ground: Ground, recipe: RewardModelRecipe, data: ComparisonBatch
) -> TokenSteps:
    """Answers whose scores are to have mean 0 and std 1: the policy's where there is one."""
    if recipe.policy is None:
        return data.answers.values
    ground.say("setting the scale of the scores on the policy's own answers")
    firsts = data.answers.offsets[:-1][:PROBES]
    prompts = data.answers.values[firsts].prompt
    policy = load_causal(recipe.policy, precision=recipe.precision)
    params = SamplingParams(max_tokens=64, stop_tokens=ground.template.stop_tokens)
    sampler = Sampler(engine=TorchEngine(policy), params=params, group_size=2)
    return sampler(prompts, seed=recipe.seed).steps


def _report(
    ground: Ground,
    recipe: RewardModelRecipe,
    model: RewardModel,
    held_out: ComparisonBatch | None,
) -> dict[str, Any]:
    """Held-out accuracy and calibration, of the second head too, and the golden judgements."""
    report: dict[str, Any] = {}
    policy_size = parameters_of(recipe.policy) if recipe.policy else None
    if held_out is not None:
        main = evaluate_reward_model(model, held_out, policy_parameters=policy_size)
        report |= main.to_json()
        for sentence in main.sentences:
            ground.say(sentence)
        if model.heads > 1:
            second = dataclasses.replace(held_out, head=torch.ones(len(held_out), dtype=torch.long))
            report["heldout_head"] = evaluate_reward_model(model, second).to_json()
    if recipe.golden:
        golden = ground.read(recipe.golden, Comparison)
        probe = evaluate_reward_model(model, _tokens(ground, golden, held_out_head=False))
        report["golden"] = probe.to_json()
    return report
