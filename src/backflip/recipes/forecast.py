"""What a recipe will train and take: counted where it can be, measured on a few real steps."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backflip.data.batches import ComparisonBatch, DemonstrationBatch, LabelledBatch, Ragged
from backflip.data.collate import tokenize_comparisons, tokenize_demonstrations, tokenize_prompts
from backflip.data.formats import as_row
from backflip.data.readings import Reading, readings
from backflip.data.records import Comparison, Demonstration, Prompt, Record
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.models.heads import RewardModel, ValueModel
from backflip.models.load import load_config, parameter_count
from backflip.models.lora import add_lora
from backflip.monitor.log import read_metrics
from backflip.recipes.check import stages_of
from backflip.recipes.load import to_yaml
from backflip.recipes.registry import Recipe
from backflip.recipes.trial import measured
from backflip.rounds.settings import IterativeRecipe
from backflip.stages.chain import Chain
from backflip.stages.context import Ground, total_steps
from backflip.stages.preferences import tokenized
from backflip.stages.scale import scaling
from backflip.stages.settings import (
    SHUFFLE_BUFFER,
    DirectRecipe,
    PPORecipe,
    RewardModelRecipe,
    SFTRecipe,
    Stage,
)

TRIAL_STEPS = 4
"""Steps that are measured; the first warms up and is not counted."""
VALIDATION_SHARE = 0.4
"""Time of a forward pass or a sample, as a share of learning from the same row."""
HEAD_ROOM = 0.9
"""Share of a machine's memory that a run may plan with."""
GB = 1e9


@dataclass(frozen=True)
class Plan:
    """What one stage will do, counted without loading any weights."""

    stage: str
    parameters: int
    """Of the models that learn: for PPO, policy and critic."""
    trainable: int
    rows: int
    """Rows (for PPO: prompts) to learn from."""
    held_out: int
    """Rows to measure by."""
    left_out: int
    """Rows that do not fit or cannot be used."""
    steps: int
    tokens: int
    """Prompts and answers over all steps, each counted once; for PPO, as if no answer ended."""
    said: tuple[str, ...] = ()
    """What reading the data had to say."""
    shown: tuple[Reading, ...] = ()
    """The first rows as the model will read them."""


@dataclass(frozen=True)
class StageForecast:
    """What one stage will take."""

    stage: str
    seconds_per_step: float
    seconds: float
    """All steps and validations, and what the reference says of all rows before."""
    tokens_per_second: float
    disk_gb: float
    """Model, adapter and the checkpoints that are kept, in 10⁹ bytes."""


@dataclass(frozen=True)
class Forecast:
    """What a recipe will take."""

    stages: tuple[StageForecast, ...]
    seconds: float
    """All stages, with loading and saving."""
    memory_gb: float
    """Highest resident memory seen, in 10⁹ bytes."""
    disk_gb: float
    tokens: int
    money: float | None
    """In the currency of the price; None where none was given."""
    warnings: tuple[str, ...] = ()


def price_in(settings: Sequence[str]) -> float | None:
    """The hourly price among settings, as ``price=2.5``. Raises UserError for what is no number."""
    said = [text.removeprefix("price=") for text in settings if text.startswith("price=")]
    try:
        return float(said[-1]) if said else None
    except ValueError as error:
        raise UserError(
            f"price={said[-1]} is not a number. Give money per hour: price=2.5"
        ) from error


# ---- counted


def plan(recipe: Recipe) -> list[Plan]:
    """Rows, steps, tokens and parameters of each stage.

    Raises UserError where the data or the model cannot be read.
    """
    if isinstance(recipe, IterativeRecipe):
        from backflip.recipes.round_forecast import plan_rounds

        return plan_rounds(recipe)
    return [_planned(stage) for stage, _ in stages_of(recipe)]


def _planned(stage: Stage) -> Plan:
    said: list[str] = []
    ground = Ground.of(stage, said.append)
    train, held = ground.records(_kind(stage))
    made = _tokenized(ground, train)
    kept = _tokenized(ground, held) if held else None
    rows = len(made.data)
    if not rows:
        raise UserError(f"no row of {stage.data.source} fits: {'; '.join(made.dropped.lines())}")
    if stage.data.streaming:
        said.append(f"  {stage.stage.replace('_', ' ')}: counted on these first rows alone")
    said += _left_out(stage, "to learn from", made)
    said += _left_out(stage, "held out", kept) if kept else []
    size = _rows_per_step(stage)
    per_epoch = max(rows // size, 1) if isinstance(stage, PPORecipe) else -(-rows // size)
    steps = total_steps(stage, per_epoch)
    parameters, trainable = _parameters(stage)
    return Plan(
        stage=stage.stage,
        parameters=parameters,
        trainable=trainable,
        rows=rows,
        held_out=len(kept.data) if kept else 0,
        left_out=made.dropped.total + (kept.dropped.total if kept else 0),
        steps=steps,
        tokens=round(_tokens_per_row(stage, made.data) * size * steps),
        said=tuple(said),
        shown=readings(made, train, ground.tokenizer),
    )


def _kind(stage: Stage) -> type[Any]:
    if isinstance(stage, DirectRecipe):
        return stage.objective.learns_from
    kinds: dict[str, type[Any]] = {
        "sft": Demonstration,
        "reward_model": Comparison,
        "ppo": Prompt,
    }
    return kinds[stage.stage]


def _tokenized(ground: Ground, records: Sequence[Any]) -> Any:
    if isinstance(ground.recipe, DirectRecipe):
        return tokenized(ground, records)
    recipe, fit = ground.recipe, ground.fit()
    if isinstance(recipe, SFTRecipe):
        return tokenize_demonstrations(records, ground.template, fit=fit, turns=recipe.turns)
    rewarded = isinstance(recipe, RewardModelRecipe)
    tokenize: Any = tokenize_comparisons if rewarded else tokenize_prompts
    return tokenize(records, ground.template, fit=fit)


def _left_out(stage: Stage, what: str, made: Any) -> list[str]:
    """Why rows do not fit, with the stage's name: those of a chain may lose the same number."""
    name = stage.stage.replace("_", " ")
    return [f"  {name}, rows {what}: left out {line}" for line in made.dropped.lines()]


def _rows_per_step(stage: Stage) -> int:
    if isinstance(stage, PPORecipe):
        return stage.prompts_per_step
    return int(getattr(stage, "batch_size", 1))


def _tokens_per_row(stage: Stage, data: Any) -> float:
    """Mean tokens of a prompt with its answers; a shared prompt counts once."""
    if isinstance(data, DemonstrationBatch | LabelledBatch):
        total = data.steps.prompt.lengths.sum() + data.steps.answer.lengths.sum()
    elif isinstance(data, ComparisonBatch):
        steps, first = data.answers.values, data.answers.offsets[:-1]
        total = steps.prompt.lengths[first].sum() + steps.answer.lengths.sum()
    else:
        assert isinstance(data, Ragged)
        assert isinstance(stage, PPORecipe)
        answers = stage.answers_per_prompt * stage.sampling.max_tokens
        total = data.lengths.sum() + answers * len(data)
    return float(total) / len(data)


def _parameters(stage: Stage) -> tuple[int, int]:
    """(all, trainable) parameters of the models that learn, built without memory."""
    from transformers import AutoModelForCausalLM

    config = load_config(stage.model)

    def model() -> Any:
        plain = AutoModelForCausalLM.from_config(config)
        return add_lora(plain, stage.lora) if stage.lora else plain

    with torch.device("meta"):
        learning: list[Any] = [model()]
        if isinstance(stage, RewardModelRecipe):
            learning = [RewardModel(model(), heads=1 + stage.held_out_head)]
        if isinstance(stage, PPORecipe) and stage.critic == "separate":
            learning.append(ValueModel(model()))
    counts = [parameter_count(one) for one in learning]
    return sum(total for total, _ in counts), sum(trainable for _, trainable in counts)


# ---- measured


def forecast(recipe: Recipe, plans: Sequence[Plan], *, price: float | None = None) -> Forecast:
    """Run a few steps of every stage in a folder of its own, and reckon up from them.

    Args:
        recipe: what to forecast.
        plans: what ``plan`` said of it.
        price: money per hour.

    Raises:
        UserError: a step failed; its own message is passed on.

    """
    with tempfile.TemporaryDirectory(prefix="backflip-") as name:
        folder = Path(name)
        trial = _trial(recipe, folder)
        file = folder / "trial.yaml"
        file.write_text(to_yaml(trial), encoding="utf-8")
        rounds = isinstance(trial, IterativeRecipe)
        steps = None if rounds else TRIAL_STEPS * len(stages_of(trial))
        wall, memory = measured(file, folder, steps)
        by_stage = _all_reckoned(recipe, trial, plans)
    learning = sum(part.seconds for part in by_stage)
    around = max(wall - sum(part.seconds_per_step * TRIAL_STEPS for part in by_stage), 0.0)
    seconds, disk = learning + around, sum(part.disk_gb for part in by_stage)
    return Forecast(
        stages=tuple(by_stage),
        seconds=seconds,
        memory_gb=memory / GB,
        disk_gb=disk,
        tokens=sum(planned.tokens for planned in plans),
        money=None if price is None else price * seconds / 3600,
        warnings=tuple(_warnings(recipe, memory, disk)),
    )


def _all_reckoned(recipe: Recipe, trial: Recipe, plans: Sequence[Plan]) -> list[StageForecast]:
    if isinstance(recipe, IterativeRecipe):
        from backflip.recipes.round_forecast import reckoned_rounds

        return reckoned_rounds(recipe, plans, trial.run)
    parts = zip(stages_of(recipe), stages_of(trial), plans, strict=True)
    return [_reckoned(stage, planned, part.run) for (stage, _), (part, _), planned in parts]


def _trial(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe for a few steps, on a sample of its data."""
    if isinstance(recipe, IterativeRecipe):
        from backflip.recipes.round_forecast import trial_rounds

        return trial_rounds(recipe, folder)
    if isinstance(recipe, Chain):
        parts = {prefix.removesuffix("."): stage for stage, prefix in stages_of(recipe)}
        short = {
            name: _short(stage, folder / "run" / name, folder) for name, stage in parts.items()
        }
        changes = {"run": folder / "run", "data": None, "trackers": ()}
        return recipe.model_copy(update={**short, **changes})
    changed: Any = _short(recipe, folder / "run", folder)
    return changed


def _short(stage: Stage, run: Path, folder: Path) -> Stage:
    """A stage cut down to a few steps on a sample of its rows."""
    ground = Ground.of(stage, lambda _: None)
    train, held = ground.records(_kind(stage))
    rows = max(TRIAL_STEPS * _rows_per_step(stage), 2)
    name = stage.stage
    source = _sample(train, rows, folder / f"{name}.jsonl", stage.seed)
    validation = _sample(held or train, 4, folder / f"{name}_held_out.jsonl", stage.seed)
    data = {"source": source, "validation": validation, "format": None, "limit": None}
    data |= {"streaming": False, "shuffle_buffer": SHUFFLE_BUFFER}
    changes: dict[str, Any] = {
        "run": run,
        "data": stage.data.model_copy(update=data),
        "steps": TRIAL_STEPS,
        "epochs": TRIAL_STEPS,
        "eval_every": 10**6,
        "checkpoint_every": TRIAL_STEPS,
        "trackers": (),
    }
    if isinstance(stage, RewardModelRecipe | DirectRecipe):
        changes["golden"] = None
    if isinstance(stage, RewardModelRecipe):
        changes["scale_answers"] = 2
    if isinstance(stage, SFTRecipe | DirectRecipe):
        changes["sampled_prompts"] = 0
    return stage.model_copy(update=changes)


def _sample(records: Sequence[Record], rows: int, path: Path, seed: int) -> str:
    chosen = random.Random(seed).sample(list(records), min(rows, len(records)))
    write_jsonl(path, map(as_row, chosen))
    return str(path)


def _reckoned(stage: Stage, planned: Plan, run: Path) -> StageForecast:
    """From the few steps in ``run`` to all of the stage's."""
    times = [entry.time for entry in read_metrics(run) if entry.step > 0]
    if len(times) < 2:
        raise UserError(f"the measurement failed: {planned.stage} wrote fewer than two steps.")
    step = (times[-1] - times[0]) / (len(times) - 1)
    validations = -(-planned.steps // stage.eval_every) + 1
    validated = min(planned.held_out, getattr(stage, "validation_prompts", planned.held_out))
    answers = getattr(stage, "answers_per_prompt", 1)
    row = VALIDATION_SHARE * step / (_rows_per_step(stage) * answers)
    once, each = _beside(stage, planned, step, row)
    return StageForecast(
        stage=planned.stage,
        seconds_per_step=step,
        seconds=once + step * planned.steps + (row * validated + each) * validations,
        tokens_per_second=planned.tokens / planned.steps / step if step else 0.0,
        disk_gb=_disk(stage, run) / GB,
    )


def _beside(stage: Stage, planned: Plan, step: float, row: float) -> tuple[float, float]:
    """Seconds beside steps and held-out rows: (once in a run, at each validation)."""
    tokens = planned.tokens / planned.steps  # of a step, all answers together
    if isinstance(stage, RewardModelRecipe):
        return scaling(stage, planned.tokens) * step / tokens, 0.0
    if not isinstance(stage, SFTRecipe | DirectRecipe):
        return 0.0, 0.0
    asked = min(stage.sampled_prompts, planned.held_out)
    sampled = VALIDATION_SHARE * step * asked * stage.sampled_tokens / tokens
    if isinstance(stage, SFTRecipe):
        return 2 * sampled, 0.0
    stated = planned.rows + planned.held_out if stage.objective.needs_reference else 0
    return row * stated, sampled


def _disk(stage: Stage, run: Path) -> int:
    """Bytes of everything that a run keeps, with as many checkpoints as it will have."""
    folder = run / "checkpoints"
    kept = [_size(part) for part in folder.iterdir()] if folder.is_dir() else []
    rest = _size(run) - sum(kept)
    best = int(getattr(stage, "best", False))
    return rest + max(kept, default=0) * (stage.keep_last + best)


def _size(path: Path) -> int:
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(_size(part) for part in path.iterdir())


def _warnings(recipe: Recipe, memory: float, disk_gb: float) -> Sequence[str]:
    """Where the machine will not do."""
    import shutil

    found: list[str] = []
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory > HEAD_ROOM * there:
        found.append(
            f"memory reached {memory / GB:.1f} of {there / GB:.1f} GB. Lower token_budget, or set "
            "activation_checkpointing=true."
        )
    place = next(p for p in (recipe.run, *recipe.run.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if disk_gb * GB > free:
        found.append(
            f"the run will take {disk_gb:.1f} GB on the disk of {place}, which has {free / GB:.1f} "
            "left. Lower keep_last, or give run= on another disk."
        )
    return found
