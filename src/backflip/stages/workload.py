"""Work of one step, counted on paper: what is read, learnt from and written, by which models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from backflip.models.load import load_config, parameter_count
from backflip.stages.plans import Lengths, Plan

__all__ = ["Held", "Kind", "Reading", "Shape", "Workload", "Writing", "offline_work", "shape_of"]

Kind = Literal["learn", "adapt", "read"]
"""All weights learn, adapters alone, or nothing."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer."""

    parameters: int
    body: int
    """Weights of the layers, without embedding and head."""
    layers: int
    width: int
    inner: int
    """Width of the feed-forward layers."""
    heads: int
    queries: int
    """Channels of all query heads."""
    keys: int
    """Channels of all key heads."""
    vocabulary: int

    @property
    def head(self) -> int:
        """Weights of the vocabulary head."""
        return self.vocabulary * self.width


@dataclass(frozen=True)
class Reading:
    """A model reads rows in every step, and may learn from them."""

    role: str
    shape: Shape
    kind: Kind
    lengths: Lengths
    rows: float
    """Rows of a step, over all passes; prompts, where they have several answers."""
    parts: float = 1
    """Pieces that a row can be cut into."""
    heads: bool = True
    """Whether the vocabulary head runs on the tokens of the answers."""
    updates: int = 1
    """Optimiser steps that its rows are cut into."""


@dataclass(frozen=True)
class Writing:
    """Answers that are drawn in every step."""

    shape: Shape
    lengths: Lengths
    """Of a prompt with its answers, as if none ended by itself."""
    prompts: int
    side_by_side: int
    """Answers written at once."""
    samplers: int = 0
    """Devices that do nothing else; 0: those that learn write too."""
    ahead: bool = False
    """Whether they write while others learn."""


@dataclass(frozen=True)
class Held:
    """A model in memory."""

    role: str
    parameters: int
    learning: int = 0
    """Parameters that learn."""


@dataclass(frozen=True)
class Workload:
    """All work of a step, and all models that it needs."""

    readings: tuple[Reading, ...]
    """The first is that of the model that learns."""
    held: tuple[Held, ...]
    writing: Writing | None = None
    left_out: tuple[str, ...] = ()
    """Sentences on work that cannot be counted beforehand."""

    @property
    def pieces(self) -> float:
        """Rows or answers of an optimiser step: as many devices have something to do at most."""
        first = self.readings[0]
        return first.rows * first.parts / first.updates


def offline_work(stage: Any, plan: Plan) -> Workload:
    """Work of a stage that learns from rows at hand. Raises UserError where there is no model."""
    from backflip.stages.forecast import counted_models

    assert plan.lengths is not None, "a stage has rows of known lengths"
    shape, ((parameters, learning),) = shape_of(stage.model), counted_models(stage)
    objective = getattr(stage, "objective", None)
    heads = stage.MODULE == "policy"
    kind: Kind = "adapt" if stage.lora else "learn"
    first = Reading(stage.MODULE, shape, kind, plan.lengths, stage.rows_per_step, heads=heads)
    readings, held = [first], [Held(stage.MODULE, parameters, learning)]
    moves = getattr(objective, "reference_moves", False)
    if moves:
        readings.append(Reading("reference", shape, "read", plan.lengths, stage.rows_per_step))
    sampled = getattr(objective, "needs_reference", False) and stage.sampled_prompts
    if not stage.lora and (moves or sampled):
        held.append(Held("reference", shape.parameters))
    return Workload(tuple(readings), tuple(held))


def shape_of(name: str, **where: Any) -> Shape:
    """Sizes of a model, without its weights. Raises UserError where there is no such model."""
    from transformers import AutoModelForCausalLM

    config = load_config(name, **where)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parameters, _ = parameter_count(model)
    tables = {id(table.weight): table.weight.numel() for table in _tables(model)}
    text = config.get_text_config()
    heads = text.num_attention_heads
    each = getattr(text, "head_dim", None) or text.hidden_size // heads
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None)
    return Shape(
        parameters=parameters,
        body=parameters - sum(tables.values()),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        inner=inner or 4 * text.hidden_size,
        heads=heads,
        queries=heads * each,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * each,
        vocabulary=text.vocab_size,
    )


def _tables(model: Any) -> list[Any]:
    """Embedding and vocabulary head, which may share their weights."""
    found = (model.get_input_embeddings(), model.get_output_embeddings())
    return [table for table in found if table is not None]
