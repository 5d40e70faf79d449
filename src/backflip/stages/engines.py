"""Engines that write answers, as settings: torch in this process, or a server."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from backflip.distributed.joining import bounded
from backflip.distributed.layout import plain
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.generate.engine import Engine
from backflip.generate.led import Led
from backflip.generate.openai.adapters import Adapters
from backflip.generate.openai.client import Client
from backflip.generate.openai.engine import OpenAIEngine
from backflip.generate.openai.meeting import address
from backflip.generate.torch.engine import NO_BFLOAT16, Precision, TorchEngine
from backflip.generate.torch.weights import has_bfloat16
from backflip.generate.vllm.engine import VllmEngine
from backflip.generate.vllm.flying import FlyingEngine
from backflip.generate.vllm.server import OwnServer
from backflip.generate.vllm.ways import Broadcast, FileWay, SharedMemory, Way
from backflip.generate.vllm.weights import WholeWeights
from backflip.models.causal import is_adapted
from backflip.models.lora import base_of
from backflip.models.quantized import is_quantized
from backflip.models.whole_folder import written_whole
from backflip.stages.choices import one_of, register

__all__ = ["ENGINES", "Embedded", "Engines", "Server", "engine_in"]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """In this process, with the weights that learn: its log-probabilities are the learner's."""

    precision: Precision = "same"
    """Of the weights that answers are written with: same, or bfloat16, a copy that is about twice
    as fast and whose log-probabilities are some 0.01 nats a token from the learner's."""

    @property
    def exact(self) -> bool:
        """Whether it states the learner's own log-probabilities."""
        return self.precision == "same"

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
        yield from _out_of_bounds(self, where, ("timeout", "concurrency"))

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
            handover=Adapters(Path(self.adapters), client) if self.adapters else None,
            concurrency=self.concurrency,
        )
        return engine if here().size == 1 else Led(engine, model)


@dataclass(frozen=True, kw_only=True)
class Vllm:
    """A vLLM that is started for the run, in an environment of its own, and handed its weights."""

    python: str = ""
    """Interpreter of the environment that vLLM is installed in, such as /envs/vllm/bin/python."""
    options: tuple[str, ...] = ()
    """Further options of its server, such as --tensor-parallel-size=2."""
    folder: str | None = None
    """Folder for its log and for weights on their way to it; null: a temporary one, which goes with
    the run."""
    handover: Literal["file", "broadcast", "ipc"] = "file"
    """Way of all weights after each step: file, in that folder; broadcast, between devices by NCCL
    or between processors by gloo; ipc, for a CUDA device that vLLM and the learner share."""
    start_seconds: float = 900.0
    """Seconds until it must serve."""
    timeout: float = 600.0
    """Seconds to wait for the answers to one prompt, before it is taken to be stuck and started
    again."""
    retries: int = 2
    """Further tries after a failure that may pass."""
    concurrency: int = 64
    """Prompts asked at once."""
    sleeps: bool = False
    """Let go of the device's memory while the policy learns, which shares the device."""
    in_flight: bool = False
    """With ahead: hand weights over as soon as they are learnt, in the middle of answers."""

    def faults(self, where: str, *, adapted: bool) -> Iterator[str]:
        yield from _no_way(self, where, adapted=adapted)
        if not self.python:
            yield (
                f"{where}.python is needed: the interpreter of an environment with vLLM, such as "
                "/envs/vllm/bin/python. It is not installed beside Backflip, whose versions of "
                "torch and transformers are others."
            )
        elif shutil.which(self.python) is None:
            yield f"{where}.python is {self.python}, which is no program."
        yield from _out_of_bounds(self, where, ("start_seconds", "timeout", "concurrency"))

    def build(self, model: Any, tokenizer: Any, *, max_rows: int) -> Engine:
        del max_rows  # the server's own affair
        whole = plain(model, only_leader=True)
        if here().size == 1:
            return self._started(whole, tokenizer)
        made, less = list[VllmEngine](), bounded(self.timeout, self.start_seconds)
        if less[2]:
            warnings.warn(less[2], stacklevel=2)
        limited = replace(self, timeout=less[0], start_seconds=less[1])
        here().once(lambda: made.append(limited._started(whole, tokenizer)))
        return Led(made[0] if made else None, model, renews=self.in_flight)

    def _started(self, model: Any, tokenizer: Any) -> VllmEngine:
        if is_quantized(model):
            raise UserError(
                "engine=vllm serves no base in 4 or 8 bits as Backflip loads it: its numbers would "
                "be others. Set quantization=null, or engine=torch."
            )
        folder = Path(self.folder or tempfile.mkdtemp(prefix="backflip-vllm-")).expanduser()
        ended = partial(shutil.rmtree, folder if self.folder is None else folder / "weights")
        written_whole(folder / "model", partial(_save, base_of(model), tokenizer))
        options = [*self._usual(model), *self.options]
        files = (folder / "model", folder / "log.txt")
        server = OwnServer(self.python, *files, options, self.start_seconds)
        server.start()
        client = Client(url=server.url, timeout=self.timeout, retries=self.retries, slow_once=True)
        if is_adapted(model):
            handover: Any = Adapters(folder / "weights", client)
        else:
            handover = WholeWeights(self._way(folder / "weights"), client)
        how: dict[str, Any] = {"client": client, "handover": handover, "tokenizer": tokenizer}
        how |= {
            "sleeps": self.sleeps,
            "concurrency": self.concurrency,
            "near": NEAR[torch.cuda.is_available()],
        }
        kind = FlyingEngine if self.in_flight else VllmEngine
        return kind(model, server, ended=partial(ended, ignore_errors=True), **how)

    def _way(self, folder: Path) -> Way:
        if self.handover == "file":
            return FileWay(folder)
        if self.handover == "ipc":
            return SharedMemory()
        return Broadcast(self.timeout)

    def _usual(self, model: Any) -> Iterator[str]:
        """Options that follow from the model: those of the user come after them."""
        yield f"--dtype={'bfloat16' if torch.cuda.is_available() else 'float32'}"
        if self.in_flight:
            yield "--enable-scale-out"
        if self.sleeps and torch.cuda.is_available():  # elsewhere there is nothing to let go of
            yield "--enable-sleep-mode"
        if is_adapted(model):
            ranks = [config.r for config in model.peft_config.values()]
            yield "--enable-lora"
            yield f"--max-lora-rank={max(8, 1 << (max(ranks) - 1).bit_length())}"


def _no_way(server: Vllm, where: str, *, adapted: bool) -> Iterator[str]:
    """Sentences on a way of weights that cannot be gone."""
    if server.handover == "file":
        return
    given, cuda = f"{where}.handover={server.handover}", torch.cuda.is_available()
    if adapted:
        yield f"{given} is for all weights, and LoRA adapters go by a file. Leave it out."
    elif server.handover == "ipc" and not cuda:
        yield f"{given} shares the memory of a CUDA device, and there is none. Leave it out."
    elif server.handover == "broadcast" and cuda and server.sleeps:
        yield (
            f"{given}, but {where}.sleeps says that vLLM and the learner share a device, between "
            f"whose processes NCCL does not go. Set {where}.handover=ipc."
        )


def _out_of_bounds(server: Server | Vllm, where: str, positive: tuple[str, ...]) -> Iterator[str]:
    """Sentences on settings of a server that are not above 0, and on retries below it."""
    for name in positive:
        if not (value := getattr(server, name)) > 0:
            yield f"{where}.{name} is {value:g}; it must be above 0."
    if server.retries < 0:
        yield f"{where}.retries is {server.retries}; it must be 0 or more."


NEAR = {True: 0.05, False: 5e-3}
"""Nats a token between vLLM and learner after weights were handed over, at most: in bfloat16 on a
device, in float32 on a CPU."""


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


ENGINES: dict[str, type[Any]] = {"torch": Embedded, "openai": Server, "vllm": Vllm}
"""Engines by the name that a recipe gives."""
register(ENGINES)
if TYPE_CHECKING:
    Engines: TypeAlias = Embedded | Server | Vllm
else:
    Engines = one_of(ENGINES)


def engine_in(raw: Any) -> Any:
    """An engine as a recipe may say it → a mapping with its name; torch where none is given."""
    given = {"name": raw} if isinstance(raw, str) else raw
    return {"name": "torch", **given} if isinstance(given, Mapping) else given
