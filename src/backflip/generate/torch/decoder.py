"""A decode network of our own for the Llama family, built from a transformers model.

Llama, SmolLM2, Mistral, Qwen 2, 2.5 and 3: RMSNorm, rotary positions, grouped queries, SwiGLU.
Projections that see the same input are one matrix, prompts are read without padding, and the
answers of a prompt share its keys. Cosines and sines come from the model's own rotary module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Int
from torch import Tensor, nn

from backflip.generate.torch.cache import SharedCache
from backflip.generate.torch.decoding import Waiting, distinct_prompts
from backflip.generate.torch.graphs import IDLE, STEADY, Recorder, StepGraph, StepInputs, cuda_graph
from backflip.generate.torch.weights import (
    Linear,
    UnsupportedLayerError,
    effective,
    plain_embedding,
)
from backflip.models.trunk import unwrapped

FAMILIES = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
}
STATELESS_ROPE = {"default", "linear", "llama3", "yarn"}
PREFILL_TOKENS = 4096
Attend = Callable[[int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """One block, ready to multiply."""

    norm_attention: Tensor
    qkv: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Linear
    norm_mlp: Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True)
class Shape:
    """Heads of the model."""

    kv_heads: int
    repeats: int
    """Query heads for each key head."""
    head_dim: int

    @property
    def heads(self) -> int:
        return self.kv_heads * self.repeats


class LlamaDecoder:
    """Holds a packed copy of the weights; knows nothing of sampling."""

    @torch.no_grad()
    def __init__(self, model: nn.Module) -> None:
        """Copy and pack the weights of a model that ``why_not`` has nothing against.

        Raises:
            UnsupportedLayerError: some layer is not plain.

        """
        lm = unwrapped(model)
        reason = why_not(lm)
        if reason:
            raise UnsupportedLayerError(reason)
        config = lm.config
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.shape = Shape(kv_heads, heads // kv_heads, head_dim)
        self.eps = config.rms_norm_eps
        self.embedding = plain_embedding(lm.model.embed_tokens)
        self.layers = [_layer(block, self.shape) for block in lm.model.layers]
        self.norm = lm.model.norm.weight.detach().clone()
        self.head = Linear(*effective(lm.lm_head))
        self.rotary = lm.model.rotary_emb
        self.act = lm.model.layers[0].mlp.act_fn
        self.cosine = self.sine = self.embedding.new_zeros(0, head_dim)
        self.cache: SharedCache | None = None
        self.first: dict[int, Tensor] = {}
        self.record: Recorder | None = cuda_graph if self.embedding.is_cuda else None
        """How steps are recorded; None, where launching costs little, reads each one anew."""
        self.graph: StepGraph | None = None
        self.lasted = (0, 0)
        """An arrangement of rows, and the steps that it has lasted."""

    def start(self, max_rows: int) -> None:
        """Forget everybody; at most ``max_rows`` answers will be open at once."""
        self.first, self.graph, self.lasted = {}, None, (0, 0)
        self.cache = SharedCache(
            layers=len(self.layers),
            kv_heads=self.shape.kv_heads,
            repeats=self.shape.repeats,
            head_dim=self.shape.head_dim,
            max_rows=max_rows,
            like=self.embedding,
        )

    def finish(self) -> None:
        """Give the cache's memory back."""
        self.cache, self.first, self.graph = None, {}, None

    def admit(self, waiting: Sequence[Waiting], free: int) -> Float[Tensor, "n V"]:
        """Open as many answers as fit; a prompt is read when its first answer opens."""
        cache, taken = self._running(), list(waiting[:free])
        self.first = {p: row for p, row in self.first.items() if p in cache.slot_prompt}
        new = [w for w in distinct_prompts(taken) if w.prompt not in self.first]
        longest = max((len(w.tokens) for w in new), default=0)
        cache.reserve(len(cache.slot_prompt) + len(new), longest)
        for piece in _pieces(new, PREFILL_TOKENS):
            self._prefill(cache, piece)
        cache.add_rows([cache.slot_prompt.index(w.prompt) for w in taken])
        if not taken:
            return self.embedding.new_zeros(0, len(self.embedding))
        return torch.stack([self.first[w.prompt] for w in taken])

    def _prefill(self, cache: SharedCache, prompts: Sequence[Waiting]) -> None:
        """Read prompts end to end: products over all of them, attention prompt by prompt."""
        device = self.embedding.device
        lengths = [len(w.tokens) for w in prompts]
        slots = [cache.add_prompt(w.prompt, len(w.tokens), w.answers) for w in prompts]
        tokens = torch.tensor([t for w in prompts for t in w.tokens], device=device)
        places = torch.cat([torch.arange(n, device=device) for n in lengths])
        cosine, sine = self._turns(places, max(lengths))

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            seen = []
            for slot, qs, kvs in zip(slots, q.split(lengths), kv.split(lengths), strict=True):
                cache.write_prompt(layer, slot, kvs)
                seen.append(self._causal(qs, kvs))
            return torch.cat(seen)

        hidden = self._trunk(tokens, cosine, sine, attend)
        ends = torch.tensor(lengths, device=device).cumsum(0) - 1
        for w, row in zip(prompts, self.head(self._norm(hidden[ends], self.norm)), strict=True):
            self.first[w.prompt] = row

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "R V"]:
        """Read one more token per row; the logits of the next."""
        cache = self._running()
        positions = cache.positions()
        cache.advance(fixed=self.record is not None)
        device = self.embedding.device
        places = torch.tensor(positions, device=device)
        cosine, sine = self._turns(places, max(positions) + 1)
        read = torch.tensor(tokens, device=device)
        inputs = StepInputs(read, cosine, sine, cache.write_at, cache.own_bias)
        if self.record is None:
            return self._read(inputs)
        return self._replayed(inputs, cache.arrangement, self.record)

    def _read(self, inputs: StepInputs) -> Float[Tensor, "R V"]:
        cache = self._running()

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            return cache.attend(layer, q, kv, inputs.write_at, inputs.own_bias)

        hidden = self._trunk(inputs.tokens, inputs.cosine, inputs.sine, attend)
        return self.head(self._norm(hidden, self.norm))

    def _replayed(
        self, inputs: StepInputs, arrangement: int, record: Recorder
    ) -> Float[Tensor, "R V"]:
        """The step from a recording, once the same rows have stayed for a while."""
        before, steps = self.lasted
        self.lasted = (arrangement, steps + 1 if arrangement == before else 0)
        if self.lasted[1] < STEADY:
            self.graph = None
            return self._read(inputs)
        if self.graph is None:
            self.graph = StepGraph(self._read, inputs, record)
        return self.graph(inputs)

    def idle(self, alive: Sequence[bool]) -> bool:
        """Whether rows that have ended may stay in their places for now."""
        return self.record is not None and alive.count(False) <= IDLE * len(alive)

    def keep(self, rows: Sequence[int]) -> None:
        """Row i becomes what row ``rows[i]`` ≥ i was; rows that are not named have left."""
        self._running().keep(rows)

    def _running(self) -> SharedCache:
        if self.cache is None:
            raise RuntimeError("LlamaDecoder: call start() first")
        return self.cache

    # The network

    def _trunk(
        self, tokens: Tensor, cosine: Tensor, sine: Tensor, attend: Attend
    ) -> Float[Tensor, "N d"]:
        x = nnf.embedding(tokens, self.embedding)
        heads, head_dim = self.shape.heads, self.shape.head_dim
        both, kv_heads = heads + self.shape.kv_heads, self.shape.kv_heads
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(self._norm(x, layer.norm_attention)).unflatten(-1, (-1, head_dim))
            q, k = qkv[:, :heads], qkv[:, heads:both]
            if layer.q_norm is not None and layer.k_norm is not None:
                q.copy_(self._norm(q, layer.q_norm))
                k.copy_(self._norm(k, layer.k_norm))
            turned = qkv[:, :both]
            turned.copy_(_turn(turned, cosine, sine))
            kv = qkv[:, heads:].reshape(len(qkv), 2 * kv_heads * head_dim)
            x = x + layer.out(attend(index, q, kv))
            gate, up = layer.gate_up(self._norm(x, layer.norm_mlp)).chunk(2, dim=-1)
            x = x + layer.down(self.act(gate) * up)
        return x

    def _norm(self, x: Float[Tensor, "*n d"], weight: Float[Tensor, " d"]) -> Tensor:
        return nnf.rms_norm(x, weight.shape, weight, self.eps)

    def _causal(self, q: Float[Tensor, "P H D"], kv: Float[Tensor, "P W"]) -> Float[Tensor, "P HD"]:
        """Attention within one prompt; the query heads of a key head form a batch."""
        shape = self.shape
        q = q.unflatten(1, (shape.repeats, shape.kv_heads)).permute(1, 2, 0, 3)
        k, v = kv.unflatten(-1, (2, shape.kv_heads, shape.head_dim)).permute(1, 2, 0, 3)
        k, v = k.expand(len(q), -1, -1, -1), v.expand(len(q), -1, -1, -1)
        out = nnf.scaled_dot_product_attention(q, k, v, is_causal=True)
        return out.permute(2, 0, 1, 3).flatten(1)

    def _turns(self, places: Int[Tensor, " N"], span: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines of these positions, [N, 1, head_dim] each."""
        if span > len(self.cosine):
            every = torch.arange(2 * span, device=places.device)[None]
            cosine, sine = self.rotary(self.embedding[:1], every)
            sine = torch.cat(
                [-sine[..., : sine.shape[-1] // 2], sine[..., sine.shape[-1] // 2 :]], -1
            )
            self.cosine, self.sine = cosine[0], sine[0]
        return self.cosine[places, None], self.sine[places, None]


def _turn(x: Float[Tensor, "N H D"], cosine: Tensor, sine: Tensor) -> Float[Tensor, "N H D"]:
    """Rotate pairs (i, i + D/2): x cos + roll(x) (-sin, sin)."""
    return torch.addcmul(x * cosine, x.roll(x.shape[-1] // 2, -1), sine)


def _pieces(prompts: Sequence[Waiting], budget: int) -> Iterator[list[Waiting]]:
    """Consecutive prompts of at most ``budget`` tokens together, at least one in each piece."""
    piece: list[Waiting] = []
    for w in prompts:
        if piece and sum(len(p.tokens) for p in piece) + len(w.tokens) > budget:
            yield piece
            piece = []
        piece.append(w)
    if piece:
        yield piece


# From a transformers model


def why_not(model: nn.Module) -> str | None:
    """What keeps a model from being decoded here; None where nothing does."""
    lm = unwrapped(model)
    if type(lm).__name__ not in FAMILIES:
        return f"{type(lm).__name__} is not of the Llama family"
    config = lm.config
    windows = getattr(config, "layer_types", None) or []
    if "sliding_attention" in windows or (
        config.model_type == "mistral" and config.sliding_window is not None
    ):
        return "it attends through a sliding window"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in STATELESS_ROPE:
        return f"its rotary positions ({rope}) change with the length"
    return None


def _layer(block: Any, shape: Shape) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    q, q_bias = effective(attention.q_proj)
    q_bias = None if q_bias is None else _repeats_first(q_bias, shape)
    k, v = effective(attention.k_proj), effective(attention.v_proj)
    out, out_bias = effective(attention.o_proj)
    return Layer(
        norm_attention=block.input_layernorm.weight.detach(),
        qkv=_stacked((_repeats_first(q, shape), q_bias), k, v),
        q_norm=attention.q_norm.weight.detach() if hasattr(attention, "q_norm") else None,
        k_norm=attention.k_norm.weight.detach() if hasattr(attention, "k_norm") else None,
        out=Linear(_repeats_first(out.T, shape).T, out_bias),
        norm_mlp=block.post_attention_layernorm.weight.detach(),
        gate_up=_stacked(effective(mlp.gate_proj), effective(mlp.up_proj)),
        down=Linear(*effective(mlp.down_proj)),
    )


def _repeats_first(rows: Tensor, shape: Shape) -> Tensor:
    """Query heads from (key head, repeat) to the cache's order (repeat, key head)."""
    grid = rows.unflatten(0, (shape.kv_heads, shape.repeats, shape.head_dim))
    return grid.transpose(0, 1).flatten(0, 2)


def _stacked(*parts: tuple[Tensor, Tensor | None]) -> Linear:
    """Projections of the same input as one."""
    weights, biases = zip(*parts, strict=True)
    if all(b is None for b in biases):
        return Linear(torch.cat(weights), None)
    biases = [w.new_zeros(len(w)) if b is None else b for w, b in parts]
    return Linear(torch.cat(weights), torch.cat(biases))
