"""The parts of every stage: tokenizer, template, model, data, optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from backflip.data.chat import ChatTemplate
from backflip.data.collate import Tokenized
from backflip.data.conversions import plural, singular
from backflip.data.memory import PREFIX as MEMORY
from backflip.data.records import Prompt, Record
from backflip.data.splits import opening_key, split_by_prompt
from backflip.distributed.alike import check_rows
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import suited
from backflip.models import quantized, smollm2
from backflip.models.load import (
    DTYPES,
    dtype_on_disk,
    load_causal,
    load_tokenizer,
    masters,
)
from backflip.models.lora import add_lora
from backflip.models.offload import offload
from backflip.stages.base import Stage
from backflip.stages.settings import OptimizerSettings
from backflip.stages.sources import account, load
from backflip.text import counted
from backflip.training.learner import SCHEDULES, Learner, make_optimizer

R = TypeVar("R", bound=Record)
UNREAD: Mapping[type[Record], str] = {Prompt: "not used unless the reward asks for it"}
"""Words before columns that nobody has read, where these are not "not used"."""
STREAMED = (
    "{source} is streamed: rows are shuffled among {buffer:,} at a time, and held out by the "
    "prompts of the first {buffer:,}, which are looked at now. How many rows there are is known at "
    "the end only, and so are the steps of a pass and the share that is held out"
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class StageContext:
    """The tokenizer and template of a stage, and how it makes the rest."""

    recipe: Stage
    tokenizer: Any
    template: ChatTemplate
    say: Say

    @staticmethod
    def of(recipe: Stage, say: Say) -> StageContext:
        """Seed, threads, tokenizer and template of a recipe."""
        torch.manual_seed(recipe.seed)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        tokenizer = load_tokenizer(recipe.tokenizer or recipe.model)
        if recipe.model == smollm2.NAME:
            say(smollm2.origin())
        template = ChatTemplate(tokenizer, recipe.template)
        tokenizer.chat_template = template.source
        return StageContext(recipe, tokenizer, template, say)

    def causal(self) -> Any:
        """The language model that the recipe starts from, adapted where it says so."""
        model = self.adapted(_base(self.recipe, self.masters[0]))
        for line in quantized.remarks(self.recipe.model, model):
            self.say(line)
        return model

    @property
    def masters(self) -> tuple[str, torch.dtype | None]:
        """(precision of the weights that learn, type to multiply in)."""
        return masters(self.recipe.precision, adapted=self.recipe.lora is not None)

    def saved_dtype(self, model: nn.Module) -> torch.dtype:
        """Type of the weights that are written, with a word where ``model`` has another one."""
        asked, now = self.recipe.saved_precision, next(model.parameters()).dtype
        if asked != "base":
            return DTYPES[asked]
        kept = dtype_on_disk(self.recipe.model) or now
        if kept != now:
            names = [str(dtype).removeprefix("torch.") for dtype in (kept, now)]
            self.say(
                f"weights are saved in {names[0]}, as {self.recipe.model} has them; they were "
                f"held in {names[1]} (saved_precision={names[1]} keeps that)"
            )
        return kept

    def adapted(self, model: nn.Module) -> Any:
        """The model with LoRA and activation checkpointing as the recipe has them."""
        if self.recipe.activation_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # pyright: ignore
            model.train()
        return add_lora(model, self.recipe.lora) if self.recipe.lora else model

    def records(self, kind: type[R]) -> tuple[list[R], list[R]]:
        """(train, held out) records, with every dropped row said aloud."""
        data = self.recipe.data
        limit = data.limit
        if data.streaming:
            self.say(STREAMED.format(source=data.source, buffer=data.shuffle_buffer))
            limit = min(data.shuffle_buffer, limit or data.shuffle_buffer)
        train = self.read(
            data.source, kind, data.format, limit, data.columns.given, streamed=data.streaming
        )
        if data.validation is None:
            return split_by_prompt(train, held_out=data.held_out, seed=self.recipe.seed)
        held = self.read(data.validation, kind, data.format, None, data.columns.given)
        learnt = set(map(opening_key, train))
        shared = sum(opening_key(record) in learnt for record in held)
        if shared and not data.streaming:  # else they are kept apart
            self.say(
                f"  held-out rows with a prompt that is also learnt from: {shared} of {len(held)}; "
                f"on these the model looks better than it is (backflip check {data.validation} "
                f"against={data.source})"
            )
        return train, held

    def read(
        self,
        source: str,
        kind: type[R],
        format: str | None = None,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        *,
        streamed: bool = False,
    ) -> list[R]:
        """Records of one kind, with every dropped row, and all that nobody reads, said aloud."""
        loaded = load(source, kind, format=format, limit=limit, columns=columns, streamed=streamed)
        rows = counted(len(loaded.records), singular(kind), plural(kind))
        read = f"{source}: {rows}, format {loaded.format}"
        self.say(read + (f", {loaded.converted}" if loaded.converted else ""))
        if Path(source).name.startswith(MEMORY) and Path(source).parent == self.recipe.run:
            self.say("  written there out of memory; a run that is resumed reads them from there")
        for line in account(loaded, self.template, unread=UNREAD.get(kind, "not used")):
            self.say(f"  {line}")
        return loaded.records

    def told(self, tokenized: Tokenized[Any]) -> Any:
        """The rows of a tokenised dataset, with what did not fit said aloud."""
        for line in tokenized.dropped.lines():
            self.say(f"  left out: {line}")
        if tokenized.cut:
            self.say(f"  cut on the left to fit: {counted(tokenized.cut, 'prompt')}")
        check_rows("rows", tokenized.data)
        return tokenized.data

    def sampling(self, params: SamplingParams, model: Any) -> SamplingParams:
        """The same, ended by the template's stop tokens, and without ids the tokenizer lacks."""
        return suited(params, self.template, model)

    def learner(self, model: Any, optimizer: OptimizerSettings, total: int | None) -> Learner:
        """A learner for ``total`` optimiser steps of ``model``; None where nobody knows.

        Several processes share the parameters out, from now on.
        """
        model = here().shard(model)
        if total is None and optimizer.warmup:
            self.say("  no warm-up, which is a share of the steps: their number is not known")
        total = total or 0
        warmup = int(-(-optimizer.warmup * total // 1))
        return Learner(
            model,
            make_optimizer(
                model,
                lr=optimizer.lr,
                betas=optimizer.betas,
                eps=optimizer.eps,
                weight_decay=optimizer.weight_decay,
                state_bits=optimizer.state_bits,
            ),
            schedule=SCHEDULES[optimizer.schedule](total, warmup=warmup),
            max_norm=optimizer.max_norm,
            token_budget=self.recipe.token_budget,
        )


def placed(context: StageContext, reference: Any, place: str) -> Any:
    """The reference where ``reference_device`` wants it."""
    if place != "cpu":
        return reference
    if reference.device.type == "cpu":
        context.say("reference_device=cpu changes nothing here: the run is on the CPU as it is")
    return offload(reference)


def _base(recipe: Stage, precision: str) -> Any:
    """The model as it is loaded. Raises UserError for files in few bits that were not asked for."""
    model = load_causal(recipe.model, precision=precision, quantization=recipe.quantization)
    kind = quantized.stored(model.config)
    if kind and recipe.quantization is None:
        raise UserError(
            f"{recipe.model} is stored in {kind}, which does not learn."
            + (f" Set quantization={kind} to learn adapters on it." if kind != "fp4" else "")
            + " Otherwise give it in 16 or 32 bits."
        )
    return model
