"""The training of an online stage: answers are drawn, judged and learnt from; the best are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from backflip.data.batches import PromptBatch
from backflip.data.curriculum import PromptPool
from backflip.data.records import Prompt
from backflip.data.stream import Batches
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.functional.statistics import mean_interval
from backflip.models.divergence import exact_kl
from backflip.models.save import save_policy
from backflip.stages.base import RunContext
from backflip.stages.context import StageContext
from backflip.stages.course import basics, drive_stage
from backflip.stages.engines import Embedded
from backflip.stages.prompt_eval import EvalPrompts, EvalResult, PromptEval, before_and_after
from backflip.stages.rewards.context import checkable, reads_models
from backflip.stages.roles import Roles
from backflip.stages.watcher import Watcher
from backflip.text import counted
from backflip.training.ahead import Ahead
from backflip.training.checkpoints import restore
from backflip.training.driver import Best, Outcome, load_best
from backflip.training.online import OnlineLoop
from backflip.training.run_folder import RunFolder

__all__ = ["train_online"]

REASONS = 3
"""Reasons for which answers had no score that are told: the most frequent ones."""
NOTHING_BETTER = "no checkpoint beat the start by held-out reward; the last weights are kept"


def train_online(recipe: Any, given: RunContext, watcher: Watcher) -> dict[str, Any]:
    """Optimise, keep the best by held-out reward, write ``model/``, return before and after."""
    if recipe.ahead and here().size > 1:
        _check_apart(recipe)
    run, context = given.run, StageContext.of(recipe, watcher.say)
    prompts, held, records = _prompts(context, recipe)
    cast = Roles.of(context, records, given.functions)
    try:
        return _trained(recipe, (run, context, cast), (prompts, held), watcher)
    finally:
        for line in cast.close()[:REASONS]:
            watcher.say(line)


def _check_apart(recipe: Any) -> None:
    """Raises UserError where several processes that learn would also have to draw or judge."""
    cluster = recipe.cluster
    lacks = {
        "cluster.samplers=1, or engine=vllm": isinstance(recipe.engine, Embedded)
        and not (cluster and cluster.samplers),
        "cluster.reward=true": reads_models(recipe.reward) and not (cluster and cluster.reward),
    }
    wanted = [setting for setting, missing in lacks.items() if missing]
    if wanted:
        raise UserError(
            f"ahead is {recipe.ahead} in a run of {here().size} processes, which would have to "
            f"draw and judge while they learn. Set {' and '.join(wanted)}, or ahead=0."
        )


def _trained(
    recipe: Any,
    given: tuple[RunFolder, StageContext, Roles],
    data: tuple[PromptBatch, EvalPrompts],
    watcher: Watcher,
) -> dict[str, Any]:
    (run, context, cast), (prompts, held) = given, data
    pool = _pool(recipe, prompts)
    total = recipe.total(pool.batches.per_epoch)
    watcher.announce(recipe, cast.policy, rows=len(prompts), steps=total)
    loop = cast.loop(total, run, pool)
    evaluation = _evaluation(cast, held, watcher)
    before = evaluation.sit(0, write=run.latest_step() is None)
    watcher.validated(0, before.metrics())
    best = _best(before) if recipe.best else None
    outcome = _driven(cast, loop, (run, best), evaluation, watcher)
    for line in (*_went_wrong(cast, loop), pool.account()):
        if line:
            watcher.say(line)
    now, summary = _kept(cast, loop, (run, outcome, best), watcher)
    after = evaluation.at(now)
    dtype = context.saved_dtype(cast.policy.model)
    save_policy(cast.policy, context.tokenizer, run.path, dtype=dtype)
    told = before_and_after(before, after)
    exact = exact_kl(cast.policy, cast.reference, after.answers.rollouts, recipe.token_budget)
    exact = after.answers.by_question(exact)
    told |= mean_interval(exact, within=(0.0, math.inf)).named("kl_exact_after")
    return basics(outcome, cast.policy, len(prompts)) | summary | told


def _driven(
    cast: Roles,
    loop: OnlineLoop,
    kept: tuple[RunFolder, Best | None],
    evaluation: PromptEval,
    watcher: Watcher,
) -> Outcome:
    """The loop's steps, one after the other or with answers drawn ahead."""
    (run, best), pool, ahead = kept, loop.pool, cast.recipe.ahead
    assert pool is not None, "an online run has prompts"
    given: Any = {"run": run, "watcher": watcher, "modules": cast.modules(loop), "best": best}
    if not ahead:
        return drive_stage(cast.context, loop, pool, assess=evaluation.metrics, **given)
    sampler: Any = loop.sampler
    made: Any = {"total": loop.steps, "sync": sampler.sync, "gather": loop.ask}
    made |= {"renew": sampler.renew} if getattr(sampler, "renews", False) else {}

    def waited(minutes: float) -> None:
        loop.spent.minutes += minutes

    with Ahead(pool, cast.policy, ahead=ahead, waited=waited, **made) as asked:
        assess = asked.resting(evaluation.metrics)
        outcome = drive_stage(cast.context, loop, asked, assess=assess, **given)
    if asked.unused:
        watcher.say(f"{counted(asked.unused, 'answer')} drawn ahead were not learnt from")
    return outcome


def _evaluation(cast: Roles, held: EvalPrompts, watcher: Watcher) -> PromptEval:
    parts = (held, cast.sampler, cast.reward, cast.reference, cast.context)
    return PromptEval(*parts, watcher.log, cast.recipe.validation_answers)


def _pool(recipe: Any, prompts: PromptBatch) -> PromptPool:
    """The prompts of a run; a curriculum may ask for more of them than there are steps."""
    curriculum = recipe.curriculum
    batches = Batches(
        prompts,
        size=recipe.prompts_per_step,
        seed=recipe.seed,
        epochs=None if curriculum.rounds > 1 else recipe.passes,
        drop_last=len(prompts) >= recipe.prompts_per_step,
    )
    return PromptPool(batches, curriculum)


def _went_wrong(cast: Roles, loop: OnlineLoop) -> Iterator[str]:
    """Sentences on the most frequent troubles of answers and of episodes."""
    for line in loop.unscored.lines()[:REASONS]:
        yield f"answers without a score, which taught nothing: {line}"
    for line in cast.troubles()[:REASONS]:
        yield f"in episodes, held-out ones too: {line}"


def _kept(
    cast: Roles,
    loop: OnlineLoop,
    ended: tuple[RunFolder, Outcome, Best | None],
    watcher: Watcher,
) -> tuple[int, dict[str, Any]]:
    """(step whose weights the policy has from now on, what the summary says of it)."""
    run, outcome, best = ended
    now, summary = outcome.steps, dict[str, Any](stopped=outcome.stopped)
    if best is not None:
        summary |= {"best_step": outcome.best_step or 0, "best_by": best.metric}
        now = load_best(run, cast.modules(loop)) or now
        loop.sampler.sync(cast.policy)
        if outcome.best_step is None:
            watcher.say(NOTHING_BETTER)
    if (lost := watcher.trusted_until()) is not None and now >= lost:
        now = _rolled_back(cast, loop, run, lost, watcher) or now
        summary |= {"rolled_back_to": now if now < lost else None}
    return now, summary | {"missing_eos": cast.recipe.shaping.missing_eos}


def _rolled_back(
    cast: Roles, loop: OnlineLoop, run: RunFolder, lost: int, watcher: Watcher
) -> int | None:
    """Give the policy the weights of the newest checkpoint of before a step; returns its step."""
    before = [step for step in run.checkpoints.steps() if step < lost]
    checkpoint = run.checkpoints.at(max(before)) if before else None
    if checkpoint is None:
        watcher.say(
            f"no checkpoint of before step {lost} is there to go back to (checkpoint_every); the "
            "last weights are kept"
        )
        return None
    for name, module in cast.modules(loop).items():
        restore(module, checkpoint.weights(name), checkpoint.path)
    loop.sampler.sync(cast.policy)
    watcher.say(f"went back to the weights of step {checkpoint.step}, before the alarm")
    return checkpoint.step


def _best(before: EvalResult) -> Best:
    """The checkpoint to keep: by the head that was not optimised against, where there is one."""
    measured = before.metrics()
    name = "val_reward_heldout" if "val_reward_heldout" in measured else "val_reward"
    return Best(name, start=measured[name])


def _prompts(
    context: StageContext, recipe: Any
) -> tuple[PromptBatch, EvalPrompts, tuple[Prompt, ...]]:
    """(prompts to learn on, held-out prompts, the records of both by ``Rollouts.row``)."""
    train, held = (checkable(recipe.reward, p, context.say) for p in context.records(Prompt))
    if not held:
        raise UserError(
            "held-out prompts are needed to judge the policy by: set data.held_out above 0"
        )
    made = recipe.tokenize(train, context.template)
    batch = PromptBatch(context.told(made), torch.tensor(made.kept))
    questions = EvalPrompts.of(context, held, recipe.validation_prompts, first_row=len(train))
    return batch, questions, (*train, *held)
