"""Plan and forecast of a stage: counted where it can be, reckoned up from a few real steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from backflip.data.readings import readings
from backflip.data.records import Record
from backflip.data.sources import write_jsonl
from backflip.data.writing import as_row
from backflip.errors import UserError
from backflip.models.load import load_config, parameter_count
from backflip.models.lora import add_lora
from backflip.monitor.log import read_metrics
from backflip.stages.base import Stage
from backflip.stages.context import StageContext
from backflip.stages.plans import TRIAL_STEPS, VALIDATION_SHARE, Plan, StageForecast
from backflip.stages.settings import SHUFFLE_BUFFER

__all__ = [
    "TRIAL_STEPS",
    "counted_models",
    "counted_parameters",
    "grown",
    "planned",
    "reckoned",
    "sampled",
    "shortened",
]

GB = 1e9


def planned(stage: Stage) -> Plan:
    """Rows, steps, tokens and parameters. Raises UserError where data or model cannot be read."""
    said: list[str] = []
    context = StageContext.of(stage, said.append)
    train, held = context.records(stage.record)
    made = stage.tokenize(train, context.template)
    kept = stage.tokenize(held, context.template) if held else None
    rows = len(made.data)
    if not rows:
        raise UserError(f"no row of {stage.data.source} fits: {'; '.join(made.dropped.lines())}")
    if stage.data.streaming:
        said.append(f"  {stage.name.replace('_', ' ')}: counted on these first rows alone")
    said += _left_out(stage, "to learn from", made)
    said += _left_out(stage, "held out", kept) if kept else []
    steps = stage.total(stage.per_epoch(rows))
    parameters, trainable = counted_parameters(stage)
    lengths = stage.lengths(made.data)
    return Plan(
        stage=stage.name,
        parameters=parameters,
        trainable=trainable,
        rows=rows,
        held_out=len(kept.data) if kept else 0,
        left_out=made.dropped.total + (kept.dropped.total if kept else 0),
        steps=steps,
        tokens=round(lengths.tokens * stage.rows_per_step * steps),
        said=tuple(said),
        shown=readings(made, train, context.tokenizer),
        lengths=lengths,
    )


def _left_out(stage: Stage, what: str, made: Any) -> list[str]:
    """Why rows do not fit, with the stage's name: those of a chain may lose the same number."""
    name = stage.name.replace("_", " ")
    return [f"  {name}, rows {what}: left out {line}" for line in made.dropped.lines()]


def counted_parameters(stage: Stage) -> tuple[int, int]:
    """(all, trainable) parameters of the models that learn, built without memory."""
    counts = counted_models(stage)
    return sum(total for total, _ in counts), sum(trainable for _, trainable in counts)


def counted_models(stage: Stage) -> list[tuple[int, int]]:
    """(all, trainable) parameters of each model that learns, the policy or the only one first."""
    from transformers import AutoModelForCausalLM

    config = load_config(stage.model)

    def causal() -> Any:
        plain = AutoModelForCausalLM.from_config(config)
        return add_lora(plain, stage.lora) if stage.lora else plain

    with torch.device("meta"):
        return [parameter_count(model) for model in stage.learning(causal)]


# ---- measured


def shortened(stage: Stage, run: Path, folder: Path) -> Stage:
    """A stage cut down to a few steps on a sample of its rows, which is written to ``folder``."""
    context = StageContext.of(stage, lambda _: None)
    train, held = context.records(stage.record)
    rows = max(TRIAL_STEPS * stage.rows_per_step, 2)
    name = stage.name
    source = sampled(train, rows, folder / f"{name}.jsonl", stage.seed)
    validation = sampled(held or train, 4, folder / f"{name}_held_out.jsonl", stage.seed)
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
    return stage.model_copy(update=changes | stage.trial_settings())


def sampled(records: Sequence[Record], rows: int, path: Path, seed: int) -> str:
    """A file of at most so many of the records, drawn at random."""
    chosen = random.Random(seed).sample(list(records), min(rows, len(records)))
    write_jsonl(path, map(as_row, chosen))
    return str(path)


def reckoned(stage: Stage, plan: Plan, run: Path) -> StageForecast:
    """From the few steps in ``run`` to all of the stage's."""
    times = [entry.time for entry in read_metrics(run) if entry.step > 0]
    if len(times) < 2:
        raise UserError(f"the measurement failed: {plan.stage} wrote fewer than two steps.")
    step = (times[-1] - times[0]) / (len(times) - 1)
    return StageForecast(
        stage=plan.stage,
        seconds_per_step=step,
        seconds=grown(stage, plan, step),
        tokens_per_second=plan.tokens / plan.steps / step if step else 0.0,
        disk_gb=_disk(stage, run) / GB,
    )


def grown(stage: Stage, plan: Plan, step: float) -> float:
    """Seconds of all steps and of what is done beside them; ``step``: of one."""
    validations = -(-plan.steps // stage.eval_every) + 1
    row = VALIDATION_SHARE * step / (stage.rows_per_step * stage.answers_per_row)
    once, each = stage.beside(plan, step, row)
    return (
        once + step * plan.steps + validations * (each + row * stage.rows_validated(plan.held_out))
    )


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
