"""The course of a stage: its loop is driven, validated and accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from backflip.algorithms.base import Objective
from backflip.data.ragged import TensorRecord
from backflip.data.stream import Batches
from backflip.data.streaming import StreamedBatches
from backflip.models.load import parameter_count
from backflip.stages.base import Stage
from backflip.stages.context import StageContext
from backflip.stages.watcher import Watcher
from backflip.training.driver import Assess, Best, Loop, Outcome, Plan, Stream, drive, keep_batches
from backflip.training.offline import OfflineLoop, ReferenceUpdate, assess
from backflip.training.run_folder import RunFolder

__all__ = ["basics", "drive_stage", "learn_offline", "prompts_in", "rows_learnt"]


def drive_stage(
    context: StageContext,
    loop: Loop,
    batches: Stream,
    *,
    run: RunFolder,
    watcher: Watcher,
    modules: Mapping[str, nn.Module],
    assess: Assess,
    best: Best | None = None,
    validate_first: bool = False,
) -> Outcome:
    """Take the loop through the steps that ``watcher`` has announced, as the recipe says."""
    return drive(
        loop,
        batches,
        Plan(
            stage=watcher.stage,
            total=watcher.total,
            eval_every=context.recipe.eval_every,
            checkpoint_every=context.recipe.checkpoint_every,
            keep_last=context.recipe.keep_last,
            best=best,
            validate_first=validate_first,
        ),
        run=run,
        modules=modules,
        watch=watcher,
        assess=assess,
    )


def learn_offline(
    context: StageContext,
    objective: Objective,
    model: Any,
    rows: tuple[TensorRecord | StreamedBatches[Any], TensorRecord | None],
    run: RunFolder,
    watcher: Watcher,
    *,
    beside: Assess | None = None,
    reference_update: ReferenceUpdate | None = None,
    validate_first: bool = False,
) -> Outcome:
    """A whole stage of learning from ``rows``: those to learn from, and the held-out ones.

    ``beside``: measured at each validation too. ``reference_update``: changes along with the model.
    """
    recipe, (train, held_out) = context.recipe, rows
    batches, total, many = _planned(recipe, train)
    watcher.announce(recipe, model, rows=many, steps=total)
    learner = context.learner(model, recipe.optimizer, total)
    learner.on_skip = keep_batches(run)
    loop = OfflineLoop(learner, objective, reference_update, getattr(batches, "counts", None))
    counts = {"val_units": float(prompts_in(held_out))} if held_out else {}

    def validate(step: int) -> dict[str, float]:
        found = assess(loop.objective, model, held_out, recipe.token_budget) if held_out else {}
        return found | counts | dict(beside(step) if beside else {})

    outcome = drive_stage(
        context,
        loop,
        batches,
        run=run,
        watcher=watcher,
        modules={recipe.MODULE: model},
        assess=validate,
        validate_first=validate_first and held_out is not None,
    )
    _account_for(batches, context)
    return outcome


def _account_for(batches: Any, context: StageContext) -> None:
    """Say which rows of a stream were left out."""
    for line in batches.account.lines() if isinstance(batches, StreamedBatches) else ():
        context.say(line)


def _planned(
    recipe: Stage,
    train: TensorRecord | StreamedBatches[Any],
) -> tuple[Batches[Any] | StreamedBatches[Any], int | None, int | None]:
    """(batches, steps, rows); None is a number of a streamed source that nobody knows."""
    if isinstance(train, StreamedBatches):
        return train, recipe.steps, None
    batches = Batches(train, size=recipe.rows_per_step, seed=recipe.seed, epochs=recipe.passes)
    return batches, recipe.total(batches.per_epoch), len(train)


def prompts_in(data: TensorRecord) -> int:
    """Number of different prompts in the rows, on which intervals over held-out rows stand."""
    steps = data.sequences()[0]
    return len({tuple(prompt.tolist()) for prompt in steps.prompt.rows()})


def rows_learnt(data: TensorRecord | StreamedBatches[Any]) -> int:
    """Number of different rows learnt from."""
    return data.account.learnt if isinstance(data, StreamedBatches) else len(data)


def basics(outcome: Outcome, model: nn.Module, rows: int) -> dict[str, int]:
    """Numbers that every stage's summary begins with: steps, rows, parameters."""
    parameters, trainable = parameter_count(model)
    return {
        "steps": outcome.steps,
        "rows": rows,
        "parameters": parameters,
        "trainable": trainable,
    }
