"""Engines that write answers, as settings: torch in this process, or a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.generate.engine import Engine
from backflip.generate.led import Led
from backflip.generate.openai.client import Client
from backflip.generate.openai.engine import OpenAIEngine
from backflip.generate.openai.meeting import address
from backflip.generate.torch.engine import NO_BFLOAT16, Precision, TorchEngine
from backflip.generate.torch.weights import has_bfloat16
from backflip.stages.choices import one_of, register

__all__ = ["ENGINES", "Embedded", "Engines", "Server", "engine_in"]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """In this process, with the weights that learn: its log-probabilities are the learner's."""

    precision: Precision = "same"
    """Of the weights that answers are written with: same, or bfloat16, a copy that is about twice
    as fast and whose log-probabilities are some 0.01 nats a token from the learner's."""

    def faults(self, where: str, *, adapted: bool) -> Iterator[str]:
        """Sentences on settings that cannot be; ``where`` is the setting's name."""
        del where, adapted
        if self.precision == "bfloat16" and not torch.cuda.is_available() and not has_bfloat16():
            yield NO_BFLOAT16

    def build(self, model: Any, tokenizer: Any, *, max_rows: int) -> Engine:
        """The engine for a model that learns."""
        decode, precision = tokenizer.decode, self.precision
        return TorchEngine(model, max_rows=max_rows, decode=decode, precision=precision)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that speaks OpenAI's protocol with token ids, as vLLM's does."""

    url: str = "http://localhost:8000/v1"
    """Address of the server."""
    model: str | None = None
    """Its name for the model that learns; null: the only one that it has."""
    adapters: str | None = None
    """Folder, seen by the server under the same name, through which it is handed the LoRA adapters
    after each step; null: its weights stay as they are."""
    key_env: str | None = None
    """Environment variable that holds the server's key."""
    timeout: float = 600.0
    """Seconds to wait for the answers to one prompt."""
    retries: int = 5
    """Further tries after a failure that may pass."""
    concurrency: int = 16
    """Prompts asked at once."""

    def faults(self, where: str, *, adapted: bool) -> Iterator[str]:
        try:
            address(self.url)
        except UserError as error:
            yield str(error)
        if self.key_env is not None and not os.environ.get(self.key_env):
            yield f"{where}.key_env is {self.key_env}, but there is no such environment variable."
        if self.adapters is not None and not adapted:
            yield (
                f"{where}.adapters is set, but all weights learn, and a server is handed LoRA "
                f"adapters alone. Leave lora on, or set {where}.adapters=null: the server's "
                "weights then stay as they are."
            )
        least = {"timeout": self.timeout, "concurrency": self.concurrency}
        for name, value in least.items():
            if not value > 0:
                yield f"{where}.{name} is {value:g}; it must be above 0."
        if self.retries < 0:
            yield f"{where}.retries is {self.retries}; it must be 0 or more."

    def build(self, model: Any, tokenizer: Any, *, max_rows: int) -> Engine:
        del max_rows  # the server's own affair
        key = os.environ.get(self.key_env) if self.key_env else None
        url = address(self.url)
        client = Client(url=url, key=key, timeout=self.timeout, retries=self.retries)
        engine = OpenAIEngine(
            model,
            client,
            served=self.model,
            tokenizer=tokenizer,
            adapters=Path(self.adapters) if self.adapters else None,
            concurrency=self.concurrency,
        )
        return engine if here().size == 1 else Led(engine, model)


ENGINES: dict[str, type[Any]] = {"torch": Embedded, "openai": Server}
"""Engines by the name that a recipe gives."""
register(ENGINES)
if TYPE_CHECKING:
    Engines: TypeAlias = Embedded | Server
else:
    Engines = one_of(ENGINES)


def engine_in(raw: Any) -> Any:
    """An engine as a recipe may say it → a mapping with its name; torch where none is given."""
    given = {"name": raw} if isinstance(raw, str) else raw
    return {"name": "torch", **given} if isinstance(given, Mapping) else given
