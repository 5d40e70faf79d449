"""Rules that hold for every stage: contradictions, bounds, published ranges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from backflip.algorithms.ranges import Usual, Within, declared
from backflip.data.records import Labelled
from backflip.models.scratch import is_tiny
from backflip.stages.choices import NAMES
from backflip.stages.memory import memory_faults
from backflip.stages.settings import SHUFFLE_BUFFER
from backflip.stages.sources import Address

__all__ = ["advice_on", "faults_of"]

EVERYWHERE = (
    Usual(1e-8, 1e-5, "1e-5 in the OpenAI line, 1e-8 in PyTorch", path="optimizer.eps"),
    Usual(0.0, 0.1, "0 in RLHF, 0.1 at most elsewhere", path="optimizer.weight_decay"),
    Usual(0.0, 0.1, "0 to 3 % of the steps, rarely 10 %", path="optimizer.warmup"),
    Usual(
        0.01, 0.3, "1 to 30 % of the rows, to measure by and to learn from", path="data.held_out"
    ),
    Usual(4, 256, "8 to 64 is common (Hu et al., 2021)", path="lora.rank"),
)
"""Ranges of settings that all stages have."""


def faults_of(stage: Any, prefix: str, *, alone: bool) -> Iterator[str]:
    """Sentences on settings of a ``Stage`` that contradict each other.

    ``prefix``: of the settings' names, where the stage is part of a chain. ``alone``: no stage
    before it makes its reward model.
    """
    yield from _streamed(stage, prefix)
    yield from memory_faults(stage, prefix)
    if stage.data.validation is None and stage.data.held_out == 0 and stage.NEEDS_HELD_OUT:
        yield (
            f"{prefix}data.held_out is 0 and {prefix}data.validation null: nothing is left to "
            f"judge by. Set {prefix}data.held_out=0.1, or give {prefix}data.validation."
        )
    for group, algorithm in stage.algorithms():
        yield from _out_of_bounds(algorithm, f"{prefix}{group}")
    yield from stage.contradictions(prefix, alone=alone)


def advice_on(stage: Any, prefix: str) -> Iterator[str]:
    """Sentences on settings of a ``Stage`` that are allowed, but not what the literature has."""
    found = [(one.path, _at(stage, one.path), one) for one in (*stage.USUAL, *EVERYWHERE)]
    for group, algorithm in stage.algorithms():
        found += [(f"{group}.{n}", value, one) for n, value, one in declared(algorithm, Usual)]
    for path, value, usual in found:
        applies = usual.adapted in (None, stage.lora is not None)
        applies &= not (path == "optimizer.lr" and is_tiny(stage.model))  # rates of trained models
        if applies and value is not None and not usual.low <= value <= usual.high:
            yield f"{prefix}{path} is {value:g}; the literature has {usual.source}."
    yield from stage.remarks(prefix)


def _out_of_bounds(algorithm: Any, prefix: str) -> Iterator[str]:
    """A sentence for each field outside of its bounds, in the terms of a mixture too."""
    for name, value, bounds in declared(algorithm, Within):
        if value is not None and value not in bounds:
            yield f"{prefix}.{name} is {value:g}; it must be {bounds}: {bounds.why}."
    for number, weight in enumerate(getattr(algorithm, "weights", ()), start=1):
        if not 0 < weight < math.inf:
            yield f"{prefix}.weights[{number}] is {weight:g}; it must be a number above 0."
    for number, term in enumerate(getattr(algorithm, "terms", ()), start=1):
        yield from _out_of_bounds(term, f"{prefix}.terms[{number}]")


def _at(stage: Any, path: str) -> Any:
    """The value of a dotted name, or None where the recipe has no such setting."""
    value: Any = stage
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def _streamed(stage: Any, prefix: str) -> Iterator[str]:
    """Sentences on settings of a ``Stage`` that do not go together with how its data is read."""
    data = stage.data
    if not data.streaming:
        if data.shuffle_buffer != SHUFFLE_BUFFER:
            yield (
                f"{prefix}data.shuffle_buffer is {data.shuffle_buffer}, but {prefix}data.streaming "
                f"is false, where all rows are shuffled. Leave it out, or set "
                f"{prefix}data.streaming=true."
            )
        return
    set_false = f"Set {prefix}data.streaming=false"
    if not stage.STREAMS:
        yield (
            f"{prefix}data.streaming is true, but this stage draws from all of its prompts: sft, "
            f"reward_model and the direct family read rows as they come. {set_false}, with "
            f"{prefix}data.limit where they do not fit in memory."
        )
        return
    if stage.record is Labelled:
        yield (
            f"{prefix}data.streaming is true, but {NAMES[type(stage.objective)]} pairs each answer "
            f"with the prompt of another row, for which all rows must be known. {set_false}, or "
            "learn from comparisons, such as objective=dpo."
        )
    if Address.of(data.source) is not None:
        yield (
            f"{prefix}data.source {data.source} is a project, which is read from its database "
            f"whole. {set_false}."
        )
    if stage.steps is None and stage.optimizer.schedule != "constant":
        yield (
            f"{prefix}steps is null: how many rows a streamed source has is not known, and "
            f"{prefix}optimizer.schedule={stage.optimizer.schedule} must know the last step. Set "
            f"{prefix}steps=NUMBER, or {prefix}optimizer.schedule=constant to go on to the end of "
            "the data."
        )
