"""Settings of stages. The hyperparameters of an algorithm are the fields of its dataclass.

Groups nest: ``algorithm.kl_coef``, ``optimizer.lr``, ``data.max_length``. Some of them have a short
form: ``data: PATH`` means ``data: {source: PATH}``, ``algorithm: ppo`` means ``{name: ppo}``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from backflip.data.templates import BUILT_IN, template_text
from backflip.distributed.joining import began, restarted
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.models.packing import token_budget_here
from backflip.models.quantized import Quantization

SHORT_FORMS = {
    "data": "source",
    "pretraining": "source",
    "algorithm": "name",
    "objective": "name",
    "judge": "model",
    "values": "name",
    "engine": "name",
    "choose": "name",
    "imitate": "name",
}
"""Groups that may be given as one word, and the key which that word is."""
ANY_WORD = ("reward", "environment", "gold")
"""Settings with kinds where a word need not be the name of one: a model, an address in Python."""
SHUFFLE_BUFFER = 10_000
"""Rows of a streamed source that are held at a time, unless a recipe says otherwise."""


class Group(BaseModel):
    """A part of a recipe: frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]


class Columns(Group):
    """Which columns of the data stand for what; null finds each by the usual names."""

    prompt: str | None = None
    """Column with the prompt; a.b is the key b inside the column a."""
    system: str | None = None
    """Column with a system message for each row."""
    completion: str | None = None
    """Column with the answer to imitate or to judge."""
    chosen: str | None = None
    """Column with the better answer."""
    rejected: str | None = None
    """Column with the worse answer."""
    label: str | None = None
    """Column that says whether the answer is good: true or false."""
    messages: str | None = None
    """Column with a whole conversation."""
    text: str | None = None
    """Column with plain text."""
    completions: str | None = None
    """Column with a list of answers to rank."""
    rank: str | None = None
    """Column with their ranks, 0 for the best."""
    scores: str | None = None
    """Column with their scores, high for the best."""
    score: str | None = None
    """Column with the score of a single answer."""
    margin: str | None = None
    """Column with how much better the better answer is."""
    weight: str | None = None
    """Column with how much a row counts."""
    reference: str | None = None
    """Column with the reference answer to a prompt, for verifiers and reward functions."""
    tools: str | None = None
    """Column with the tools that the assistant may call."""

    @property
    def given(self) -> dict[str, str]:
        """Those that are not null."""
        return {name: column for name, column in self if column is not None}


class DataSettings(Group):
    """Source of the rows, and how they are read."""

    source: str
    """A file, a folder, a hub name owner/name, demo:NAME, task:NAME, gym:NAME, or
    feedback:PROJECT."""
    format: str | None = None
    """Name of the data's format; null finds it by the columns. Of a project: soft or preference."""
    columns: Columns = Columns()
    """Which columns stand for what, where their names are not the usual ones."""
    validation: str | None = None
    """Source of held-out rows; null keeps apart a share of ``source``, by prompt."""
    held_out: Share = 0.1
    """Share of the prompts kept apart for validation, where ``validation`` is null."""
    limit: Count | None = None
    """Rows to read at most; null reads all."""
    streaming: bool = False
    """Read rows while they are learnt from, for a source that does not fit in memory."""
    shuffle_buffer: Count = SHUFFLE_BUFFER
    """Of a streamed source, rows among which the order is random, and first rows to hold out of."""
    max_length: Annotated[int, Field(ge=2)] = 512
    """Longest prompt and answer together, in tokens (for PPO: longest prompt)."""
    too_long: Literal["drop", "cut"] = "drop"
    """Beyond max_length: drop the row and count it, or cut the start of its prompt."""


class OptimizerSettings(Group):
    """AdamW, and how its learning rate moves."""

    lr: Positive
    """Highest learning rate; auto takes the literature's, for LoRA or for all weights."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of the running mean of gradients and of their squares, per step."""
    eps: Positive = 1e-5
    """Added to the root of the second moment; 1e-5 in the OpenAI line, PyTorch has 1e-8."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled decay of matrices, per unit of learning rate."""
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    """Down to 0 in a line, down to a tenth in half a cosine, or unchanged."""
    warmup: Share = 0.03
    """Share of the steps in which the rate rises from 0."""
    max_norm: Positive = 1.0
    """Gradients longer than this are shortened to it."""
    state_bits: Literal[8, 32] = 32
    """Of each number of the moments; 8, through bitsandbytes, a quarter of their memory."""


class Pretraining(Group):
    """InstructGPT's mix: demonstrations learnt beside the reward, against forgetting."""

    source: str
    """Demonstrations or plain text: a file, folder, hub name or demo:NAME."""
    coef: Positive = 1.0
    """γ, the weight of their loss in nats a token (InstructGPT: 27.8, its loss a sum)."""
    batch_size: Count = 8
    """Rows in every optimiser step."""
    max_length: Annotated[int, Field(ge=2)] = 512
    """Longest row, in tokens; longer ones are dropped and counted."""


class Common(Group):
    """Settings of every stage, and of a whole chain too."""

    stage: Any
    """Which recipe this is."""

    model: str = "smollm2"
    """Where to start from: a folder, a hub name owner/name, a run, smollm2, or scratch."""
    tokenizer: str | None = None
    """Folder or hub name of another tokenizer; null takes the model's own."""
    template: Literal["chatml", "hh", "plain"] | str | None = None
    """Chat template to give the model: one of these, or a file of Jinja; null keeps its own."""
    run: Path
    """The run's folder; runs/NAME-DATE unless given."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of weights and activations; auto is float32 on a CPU, bfloat16 on CUDA."""
    quantization: Quantization | None = None
    """Hold the frozen base in 4 bits (nf4) or 8 (int8), through bitsandbytes; only with lora."""
    saved_precision: Literal["base", "float32", "bfloat16", "float16"] = "base"
    """Of the weights in ``model/``; base is that of the files of the model that was trained."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about 1.3 × the time."""
    token_budget: Annotated[int, Field(ge=16, default_factory=token_budget_here)]
    """Forest tokens in one micro-batch: changes memory and speed, never the result. 1,536 on a
    CPU; 100 for each GB of a device's memory."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides splits, order of rows, fresh weights and samples."""
    threads: Count | None = None
    """CPU threads; null takes all cores."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Where else metrics go; one word, or a list."""
    checkpoint_every: Count = 50
    """Steps between checkpoints."""
    keep_last: Count = 2
    """Checkpoints kept, beside the best one."""

    @field_validator("template", mode="before")
    @classmethod
    def _read(cls, raw: Any) -> Any:
        """The text of a file: a run has all that it needs in its own recipe."""
        if raw is not None and not isinstance(raw, str):
            raise UserError(f"it is {raw!r}; it must be {', '.join(BUILT_IN)} or a file of Jinja")
        return raw and template_text(raw)

    @field_validator("trackers", mode="before")
    @classmethod
    def _listed(cls, raw: Any) -> Any:
        """One word, or several with commas, for a list."""
        if raw in (None, False, "none"):
            return ()
        return [word.strip() for word in raw.split(",")] if isinstance(raw, str) else raw


def long_forms(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with groups that were given as one word written out."""
    out = dict(raw)
    for key, inner in SHORT_FORMS.items():
        if isinstance(out.get(key), str):
            out[key] = {inner: out[key]}
    return out


def with_rate(settings: Any, rates: tuple[float, float], *, adapted: bool) -> Any:
    """Settings of an optimiser with a rate in the place of auto: with LoRA, or for all weights."""
    if not isinstance(settings, Mapping):
        return settings
    settled = {"lr": "auto"} | dict(settings)
    if settled["lr"] in ("auto", None):
        settled["lr"] = rates[0 if adapted else 1]
    return settled


def default_run(name: str) -> Path:
    """``runs/NAME-DATE``, to the second; with a number behind it where that is there already."""
    when = time.localtime(here().began or began())  # of several processes the same
    first = Path("runs") / f"{name}-{time.strftime('%Y-%m-%d-%H%M%S', when)}"
    if restarted():  # the run that was begun is gone on with
        return first
    later = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], later) if not path.exists())
