"""Forecast of rounds: answers and learning, reckoned up from one short round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backflip.data.collate import tokenize_prompts
from backflip.data.readings import Reading, readings
from backflip.data.records import Prompt
from backflip.errors import UserError
from backflip.monitor.log import read_metrics
from backflip.rounds.people import asks_people
from backflip.rounds.settings import PYTHON, IterativeRecipe
from backflip.sampling.choosing import AllWins
from backflip.stages.base import Stage
from backflip.stages.context import StageContext
from backflip.stages.forecast import (
    TRIAL_STEPS,
    counted_parameters,
    planned,
    reckoned,
    sampled,
    shortened,
)
from backflip.stages.plans import Plan, StageForecast

__all__ = ["plan_rounds", "reckoned_rounds", "trial_rounds"]

ANSWERS = "answers"
TRIAL_PROMPTS, TRIAL_HELD_OUT = 8, 4
"""Prompts of the short round."""


@dataclass(frozen=True)
class _Prompts:
    """Prompts to answer."""

    context: StageContext
    train: list[Prompt]
    held: list[Prompt]
    lengths: list[int]
    """Of those that fit, in tokens."""
    left_out: int
    said: list[str]
    shown: tuple[Reading, ...]

    @staticmethod
    def of(recipe: IterativeRecipe) -> _Prompts:
        said: list[str] = []
        stage = recipe.links()[-1][1].model_copy(update={"data": recipe.data})
        context = StageContext.of(stage, said.append)
        train, held = context.records(Prompt)
        made = tokenize_prompts(train, context.template, fit=context.recipe.fit)
        if not len(made.data):
            raise UserError(
                f"no prompt of {recipe.data.source} fits: {'; '.join(made.dropped.lines())}"
            )
        lengths = made.data.lengths.tolist()
        return _Prompts(
            context,
            train,
            held,
            lengths,
            made.dropped.total,
            said,
            readings(made, train, context.tokenizer),
        )


def plan_rounds(recipe: IterativeRecipe) -> list[Plan]:
    """Rows answered and learnt in all rounds together, as if no prompt were dropped."""
    prompts = _Prompts.of(recipe)
    size = _per_round(recipe, len(prompts.lengths))
    prompt = sum(prompts.lengths) / len(prompts.lengths)
    held = min(len(prompts.held), recipe.validation_prompts)
    longest = recipe.sampling.max_tokens
    last = recipe.links()[-1][1]
    every = size * (prompt + recipe.answers_per_prompt * longest)
    tokens = recipe.rounds * every + (recipe.rounds + 1) * held * (prompt + longest)
    answers = Plan(
        stage=ANSWERS,
        parameters=counted_parameters(last)[0],
        trainable=0,
        rows=size,
        held_out=held,
        left_out=prompts.left_out,
        steps=recipe.rounds,
        tokens=round(tokens),
        said=tuple(prompts.said),
        shown=prompts.shown,
    )
    learners = [_planned(recipe, name, stage, size, prompt) for name, stage in recipe.links()]
    return [answers, *learners]


def _planned(recipe: IterativeRecipe, name: str, stage: Stage, size: int, prompt: float) -> Plan:
    if name == "reward_model":
        one = planned(_with_preferences(recipe, stage))
        return replace(one, steps=one.steps * recipe.rounds, tokens=one.tokens * recipe.rounds)
    rows = [size * (number if recipe.pool else 1) for number in range(1, recipe.rounds + 1)]
    batch = stage.rows_per_step
    steps = sum(stage.steps or -(-n // batch) * stage.epochs for n in rows)
    answers = 1 if name == "sft" else _compared(recipe)
    parameters, trainable = counted_parameters(stage)
    return Plan(
        stage=name,
        parameters=parameters,
        trainable=trainable,
        rows=rows[-1],
        held_out=0,
        left_out=0,
        steps=steps,
        tokens=round(steps * batch * (prompt + answers * recipe.sampling.max_tokens)),
    )


def _compared(recipe: IterativeRecipe) -> int:
    """Answers of a prompt that learn."""
    choose = recipe.choose
    keep = (choose.keep or recipe.answers_per_prompt) if isinstance(choose, AllWins) else 2
    return min(keep, recipe.answers_per_prompt)


def _per_round(recipe: IterativeRecipe, there_are: int) -> int:
    return min(recipe.prompts_per_round or there_are, there_are)


def _with_preferences(recipe: IterativeRecipe, stage: Stage) -> Stage:
    if not recipe.preferences:
        return stage
    data = stage.data.model_copy(update={"source": recipe.preferences[0]})
    return stage.model_copy(update={"data": data})


def trial_rounds(recipe: IterativeRecipe, folder: Path) -> IterativeRecipe:
    """One short round on a sample of the prompts, each of its trainings a few steps long.

    Raises UserError where a function judges, which no other process can ask, or people do.
    """
    judge = recipe.judge.model if recipe.judge is not None else None
    if judge == PYTHON or asks_people(judge):
        raise UserError(f"judge={judge} cannot be measured from here: check with --no-measure.")
    prompts = _Prompts.of(recipe)
    source = sampled(prompts.train, TRIAL_PROMPTS, folder / "prompts.jsonl", recipe.seed)
    held = prompts.held or prompts.train
    validation = sampled(held, TRIAL_HELD_OUT, folder / "held_out.jsonl", recipe.seed)
    data = {"source": source, "validation": validation, "format": None, "limit": None}
    changes: dict[str, Any] = {
        "run": folder / "run",
        "data": recipe.data.model_copy(update=data),
        "rounds": 1,
        "prompts_per_round": None,
        "preferences": (),
        "trackers": (),
        "filters": replace(recipe.filters, cut_off=True),
        "most_failed": 0.99,
    }
    for name, stage in recipe.links():
        if name == "reward_model":
            whole = _with_preferences(recipe, stage)
            changes[name] = shortened(whole, folder / "run" / name, folder)
        else:
            few = {"steps": TRIAL_STEPS, "eval_every": 10**6, "checkpoint_every": TRIAL_STEPS}
            changes[name] = stage.model_copy(update={**few, "data": changes["data"]})
    return recipe.model_copy(update=changes)


def reckoned_rounds(
    recipe: IterativeRecipe, plans: Sequence[Plan], run: Path
) -> list[StageForecast]:
    """From the short round in ``run`` to all rounds."""
    found: list[StageForecast] = []
    inside = 0.0
    for (name, stage), plan in zip(recipe.links(), plans[1:], strict=True):
        folder = run / "round_1" / name
        found.append(reckoned(stage, plan, folder))
        inside += read_metrics(folder)[-1].time
    entries = read_metrics(run)
    drawn = TRIAL_PROMPTS * recipe.answers_per_prompt + 2 * TRIAL_HELD_OUT
    an_answer = max(entries[-1].time - inside, 0.0) / drawn
    answers, held = plans[0].rows * recipe.answers_per_prompt, plans[0].held_out
    seconds = an_answer * (recipe.rounds * answers + (recipe.rounds + 1) * held)
    first = StageForecast(
        stage=ANSWERS,
        seconds_per_step=seconds / recipe.rounds,
        seconds=seconds,
        tokens_per_second=plans[0].tokens / seconds if seconds else 0.0,
        disk_gb=0.0,
    )
    disk = {part.stage: part.disk_gb * recipe.rounds for part in found}
    return [first, *(replace(part, disk_gb=disk[part.stage]) for part in found)]
