"""Generation in this process, in plain torch.

Each prompt is read once, its answers share its keys, a row that has finished leaves at once and
the next answer in the queue takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from backflip.distributed.layout import plain
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.generate.engine import (
    Completion,
    FinishReason,
    Progress,
    SamplingParams,
    check_prompts,
)
from backflip.generate.torch import filters
from backflip.generate.torch.decoder import LlamaDecoder
from backflip.generate.torch.decoding import Decoder, Waiting
from backflip.generate.torch.fallback import causal_up_to, own_forward
from backflip.generate.torch.llama import why_not
from backflip.generate.torch.prefixes import Prefixes
from backflip.generate.torch.weights import UnsupportedLayerError, has_bfloat16
from backflip.models.positions import check_growth
from backflip.models.quantized import is_quantized, no_room
from backflip.models.trunk import unwrapped
from backflip.progress import Task, task

Decode = Callable[[list[int]], str]
Precision: TypeAlias = Literal["same", "bfloat16"]
NO_BFLOAT16 = (
    "engine.precision is bfloat16, which this processor does not know (AVX512-BF16 or AMX): it "
    "would be slower than float32. Set engine.precision=same."
)
IN_CACHE = 1 << 19
"""Logits that are chosen from at once on a CPU: 2 MiB."""


@dataclass
class Row:
    """An answer that is being written."""

    waiting: Waiting
    uniform: list[float]
    """One number in [0, 1) for each token it may write."""
    tokens: list[int] = field(default_factory=list[int])
    logp: list[float] = field(default_factory=list[float])
    behaviour_logp: list[float] = field(default_factory=list[float])
    reason: FinishReason | None = None

    @property
    def alive(self) -> bool:
        """Still being written; a row that is not may stand idle for a few more steps."""
        return self.reason is None


@dataclass(frozen=True)
class EndOfAnswer:
    """Why an answer ends: a stop token, a stop string or its length, in this order."""

    params: SamplingParams
    decode: Decode | None

    def reason(self, tokens: list[int]) -> FinishReason | None:
        """Why it ends with the last of ``tokens``; None where it goes on."""
        params = self.params
        if len(tokens) > params.min_tokens and tokens[-1] in params.stop_tokens:
            return "stop"
        if len(tokens) >= params.min_tokens and self._says_stop(tokens):
            return "stop_string"
        return "length" if len(tokens) >= params.max_tokens else None

    def _says_stop(self, tokens: list[int]) -> bool:
        """Whether the answer ends with a stop string, possibly in the middle of a token."""
        stops = self.params.stop_strings
        if not stops or self.decode is None:
            return False
        window = 4 * max(len(stop) for stop in stops) + 4  # a character has up to 4 byte tokens
        text = self.decode(tokens[-window:])
        return any(stop in text for stop in stops)


class TorchEngine:
    """Answers prompts with a transformers (or peft) causal LM.

    Llama, SmolLM2, Mistral, Qwen 2, 2.5 and 3 run through a decode network of our own with packed
    weights, so weights that have changed are seen after ``sync``. Every other model runs through
    its own forward pass; ``slow_because`` says why.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        max_rows: int = 64,
        decode: Decode | None = None,
        precision: Precision = "same",
    ) -> None:
        """``max_rows``: answers open at once. ``decode``: tokens to text, for stop strings.

        ``precision``: ``bfloat16`` multiplies with a copy of the weights in that type, in about
        half the time where the processor knows it; log-probabilities move by some 0.01 nats.

        Raises:
            UserError: bfloat16, and the processor does not know it.

        """
        if max_rows < 1:
            raise UserError(f"TorchEngine: max_rows must be 1 or more, got {max_rows}.")
        on_cpu = next(model.parameters()).device.type == "cpu"
        if precision == "bfloat16" and on_cpu and not has_bfloat16():
            raise UserError(NO_BFLOAT16)
        self.precision: Precision = precision
        self.model = model
        self.max_rows = max_rows
        self.decode = decode
        self.slow_because: str | None = why_not(model)
        self._decoder: Decoder | None = None
        self._cached: bool | None = None
        self._conversing = False
        self._causal_up_to: float | None = math.inf if self.slow_because is None else None

    @property
    def exact(self) -> bool:
        """Whether log-probabilities are the learner's own: with products in its own precision."""
        return self.precision == "same"

    def sync(self, model: nn.Module | None = None) -> None:
        """Take over the weights that ``model`` has now; they are packed when they are needed."""
        if model is not None:
            self.model = model
        self.release()

    def release(self) -> None:
        """Free the packed copy of the weights; the next ``generate`` makes it again."""
        self._decoder = None

    @contextmanager
    def conversation(self) -> Generator[None]:
        """Within it, a prompt that goes on from an answer is read from there.

        The keys of what was read and written are kept, up to 2 GiB; models outside of the families
        above read all of it anew.
        """
        with torch.no_grad():
            decoder = self._ready()
        if not isinstance(decoder, LlamaDecoder):
            yield
            return
        decoder.prefixes, self._conversing = Prefixes(), True
        try:
            yield
        finally:
            decoder.prefixes, self._conversing = None, False
            self._release_dequantized()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        group: int = 1,
        seed: int = 0,
        progress: Progress | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Completion]:
        """``group`` answers for each prompt, those of the first prompt first.

        The tokens of an answer depend on the seed, its prompt, and the two indices: not on
        ``max_rows`` and not on its company (up to ties within float rounding). Long prompts
        begin first.
        """
        self._check(prompts, params, group)
        queue = dealt(prompts, group, range(len(prompts)) if numbers is None else numbers)
        with torch.no_grad():
            decoder = self._ready()
            decoder.start(min(self.max_rows, max(1, len(queue))), params.max_tokens)
            most, label = len(queue) * params.max_tokens, f"writing {len(queue)} answers"
            try:
                with task(label, most, "tokens at most") as writing:
                    told, end = (progress, writing), EndOfAnswer(params, self.decode)
                    done = answers(decoder, queue, end, seed, self.max_rows, told)
            finally:
                decoder.finish()
                if not self._conversing:
                    self._release_dequantized()
        done = [completion for theirs in here().everyone(done) for completion in theirs]
        return sorted(done, key=lambda c: (c.prompt_index, c.answer_index))

    def _release_dequantized(self) -> None:
        """Learning needs the room that a dequantised copy took; it is soon made again."""
        if self.slow_because is None and is_quantized(self.model):
            self.release()

    def _check(self, prompts: Sequence[Sequence[int]], params: SamplingParams, group: int) -> None:
        config = unwrapped(self.model).config.get_text_config()
        check_prompts(prompts, params, group=group, vocabulary=config.vocab_size)
        check_growth(self.model, [len(p) for p in prompts], params.max_tokens)
        if params.stop_strings and self.decode is None:
            raise UserError("stop_strings need an engine with decode=: tokens to text.")
        if self._causal_up_to is None:
            self._causal_up_to = causal_up_to(plain(self.model))
        longest = max((len(p) for p in prompts), default=0)
        check_length(config, longest, params.max_tokens, causal=self._causal_up_to)

    def _ready(self) -> Decoder:
        if self._decoder is None:
            self.slow_because = why_not(self.model) or no_room(self.model)
            model = plain(self.model)
            if self.slow_because is None:
                try:
                    narrow = None if self.exact else torch.bfloat16
                    self._decoder = LlamaDecoder(model, narrow)
                except UnsupportedLayerError as layer:
                    self.slow_because = f"it holds a layer that cannot be packed: {layer}"
            if self._decoder is None:
                if not self.exact:
                    raise UserError(
                        f"engine: no copy in {self.precision} can be made of this model: "
                        f"{self.slow_because}. Leave engine.precision at same."
                    )
                self._decoder = own_forward(model, self._cached)
                self._cached = self._decoder.cached
        return self._decoder


def dealt(prompts: Sequence[Sequence[int]], group: int, numbers: Sequence[int]) -> list[Waiting]:
    """The answers that this process writes, long prompts first: each has the numbers of its own."""
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    mine = [i for i, counted in here().deal(order) if counted]
    return [Waiting(numbers[i], j, prompts[i], group) for i in mine for j in range(group)]


def check_length(config: Any, prompt: int, answer: int, *, causal: float) -> None:
    """Raises UserError where a model cannot write as many tokens behind as long a prompt.

    ``causal``: tokens up to which what it says of one does not change with those behind it.
    """
    if prompt + answer > causal:
        raise UserError(
            f"generate: beyond {causal:g} tokens, what {config.model_type} says of "
            "a token changes with those behind it, so that it writes with other probabilities "
            f"than it reads. A prompt of {prompt} tokens and max_tokens "
            f"{answer} are too long: shorten one of the two."
        )
    limit = getattr(config, "max_position_embeddings", None)
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if limit is not None and rope == "default" and prompt + answer > limit:
        raise UserError(
            f"generate: a prompt of {prompt} tokens and max_tokens {answer} go "
            f"beyond the {limit} positions of the model. Shorten one of the two."
        )


def answers(
    decoder: Decoder,
    queue: list[Waiting],
    end: EndOfAnswer,
    seed: int,
    max_rows: int,
    told: tuple[Progress | None, Task],
) -> list[Completion]:
    """The answers of a queue, in the order in which they end; ``told`` hears of each token."""
    progress, writing = told
    params = end.params
    rows: list[Row] = []
    done: list[Completion] = []
    while rows or queue:
        logits: list[Tensor] = []
        if rows:
            logits.append(decoder.step([row.tokens[-1] for row in rows]))
        if queue and len(rows) < max_rows:
            first = decoder.admit(queue, max_rows - len(rows))
            logits.append(first)
            rows += [Row(w, stream(seed, w, params.max_tokens)) for w in queue[: len(first)]]
            del queue[: len(first)]
        written = [(place, row) for place, row in enumerate(rows) if row.alive]
        write(rows, torch.cat(logits) if len(logits) > 1 else logits[0], end)
        if progress is not None:
            for _, row in written:
                progress(row.waiting.prompt, row.waiting.answer, row.tokens[-1])
        for place, row in written:
            if not row.alive:
                decoder.remember(place, [*row.waiting.tokens, *row.tokens])
                done.append(_completion(row))
        unfinished = sum(len(row.tokens) for _, row in written if row.alive)
        writing.reach(len(done) * params.max_tokens + unfinished)
        alive = [row.alive for row in rows]
        if not all(alive) and (queue or not decoder.idle(alive)):
            kept = fill_holes(alive)
            decoder.keep(kept)
            rows = [rows[i] for i in kept]
    return done


def write(rows: list[Row], logits: Float[Tensor, "R V"], end: EndOfAnswer) -> None:
    """Choose a token for each row that is alive and say whether that ends it."""
    params, device = end.params, logits.device
    at = [min(len(row.tokens), params.max_tokens - 1) for row in rows]
    numbers = [row.uniform[t] for row, t in zip(rows, at, strict=True)]
    uniform = torch.tensor(numbers, dtype=torch.float64, device=device)
    short = torch.tensor([t < params.min_tokens for t in at], device=device)
    tokens, logp, behaviour = choose(logits, uniform, short, params)
    columns = zip(rows, tokens.tolist(), logp.tolist(), behaviour.tolist(), strict=True)
    for row, token, own, drawn in columns:
        if not row.alive:
            continue
        row.tokens.append(token)
        row.logp.append(own)
        row.behaviour_logp.append(drawn)
        row.reason = end.reason(row.tokens)


def choose(
    logits: Float[Tensor, "R V"],
    uniform: Float[Tensor, " R"],
    short: Bool[Tensor, " R"],
    params: SamplingParams,
) -> tuple[Int[Tensor, " R"], Float[Tensor, " R"], Float[Tensor, " R"]]:
    """Token of each row, its log π, and its log-probability under what it was drawn from.

    ``short`` is True for rows that may not stop yet. On a CPU rows are taken a few at a time: the
    passes over a vocabulary are bound by memory, and a few rows stay in the cache.
    """
    few = len(logits) if logits.is_cuda else max(1, IN_CACHE // logits.shape[1])
    if few >= len(logits):
        return _chosen(logits, uniform, short, params)
    pieces = zip(logits.split(few), uniform.split(few), short.split(few), strict=True)
    parts = zip(*(_chosen(*piece, params) for piece in pieces), strict=True)
    tokens, logp, behaviour = (torch.cat(part) for part in parts)
    return tokens, logp, behaviour


def _chosen(
    logits: Float[Tensor, "R V"],
    uniform: Float[Tensor, " R"],
    short: Bool[Tensor, " R"],
    params: SamplingParams,
) -> tuple[Int[Tensor, " R"], Float[Tensor, " R"], Float[Tensor, " R"]]:
    logits = logits.float()
    policy = filters.tempered(logits, params.temperature)
    allowed = filters.biased(logits, params.logit_bias)
    allowed = filters.within_vocabulary(allowed, params.vocab_size)
    if params.stop_tokens and params.min_tokens:
        stops = torch.tensor(params.stop_tokens, device=logits.device)
        allowed = filters.without(allowed, stops, short)
    drawn = policy if allowed is logits else filters.tempered(allowed, params.temperature)
    drawn = filters.top_k(drawn, params.top_k)
    drawn = filters.top_p(drawn, params.top_p)
    drawn = filters.min_p(drawn, params.min_p)
    if params.temperature == 0:
        tokens = drawn.argmax(-1)
        return tokens, filters.log_prob(policy, tokens), policy.new_zeros(len(tokens))
    tokens, behaviour = filters.draw(drawn, uniform)
    logp = behaviour if drawn is policy else filters.log_prob(policy, tokens)
    return tokens, logp, behaviour


def stream(seed: int, waiting: Waiting, length: int) -> list[float]:
    """The random numbers of one answer: counter-based, so they depend on its indices only."""
    entropy = np.random.SeedSequence([seed, waiting.prompt, waiting.answer])
    return np.random.Generator(np.random.Philox(entropy)).random(length).tolist()


def fill_holes(alive: Sequence[bool]) -> list[int]:
    """The live rows, the last ones moved into the places of those that left."""
    live = [row for row, lives in enumerate(alive) if lives]
    tail = [row for row in live if row >= len(live)]
    return [row if alive[row] else tail.pop() for row in range(len(live))]


def _completion(row: Row) -> Completion:
    return Completion(
        prompt_index=row.waiting.prompt,
        answer_index=row.waiting.answer,
        tokens=row.tokens,
        logp=row.logp,
        behaviour_logp=row.behaviour_logp,
        finish_reason=row.reason or "length",
    )
