"""The Llama family's network with packed weights, from a transformers model.

Llama, SmolLM2, Mistral, Qwen 2, 2.5 and 3: RMSNorm, rotary positions, grouped queries, SwiGLU.
Projections that see the same input are one matrix. Cosines and sines come from the model's own
rotary module. Attention is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Int
from torch import Tensor, nn

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
Attend = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, queries, keys and values of the same tokens) → what the tokens see."""


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


class LlamaNetwork:
    """A packed copy of a model's weights, and the forward pass through them."""

    @torch.no_grad()
    def __init__(self, model: nn.Module, narrow: torch.dtype | None = None) -> None:
        """Copy and pack the weights of a model that ``why_not`` has nothing against.

        ``narrow``: the type of matrix products; None, the model's own.

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
        self.layers = [_layer(block, self.shape, narrow) for block in lm.model.layers]
        self.norm = lm.model.norm.weight.detach().clone()
        self.head = Linear(*effective(lm.lm_head), narrow)
        self.rotary = lm.model.rotary_emb
        self.act = lm.model.layers[0].mlp.act_fn
        self.cosine = self.sine = self.embedding.new_zeros(0, head_dim)

    def hidden(
        self, tokens: Tensor, cosine: Tensor, sine: Tensor, attend: Attend
    ) -> Float[Tensor, "N d"]:
        """States behind the last layer, not normed yet. ``attend``: attention of each layer."""
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

    def logits(self, hidden: Float[Tensor, "N d"]) -> Float[Tensor, "N V"]:
        """The next token's, from what ``hidden`` gave."""
        return self.head(self._norm(hidden, self.norm))

    def causal(self, q: Float[Tensor, "P H D"], kv: Float[Tensor, "M W"]) -> Float[Tensor, "P HD"]:
        """Attention of a prompt's last P tokens; the query heads of a key head form a batch."""
        shape = self.shape
        q = q.unflatten(1, (shape.repeats, shape.kv_heads)).permute(1, 2, 0, 3)
        k, v = kv.unflatten(-1, (2, shape.kv_heads, shape.head_dim)).permute(1, 2, 0, 3)
        k, v = k.expand(len(q), -1, -1, -1), v.expand(len(q), -1, -1, -1)
        seen = None
        if len(kv) > q.shape[2]:
            seen = q.new_ones(q.shape[2], len(kv), dtype=torch.bool)
            seen = seen.tril(len(kv) - q.shape[2])
        out = nnf.scaled_dot_product_attention(q, k, v, seen, is_causal=seen is None)
        return out.permute(2, 0, 1, 3).flatten(1)

    def turns(self, places: Int[Tensor, " N"], span: int) -> tuple[Tensor, Tensor]:
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


def why_not(model: nn.Module) -> str | None:
    """The obstacle to decoding a model here; None where there is none."""
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


def _layer(block: Any, shape: Shape, narrow: torch.dtype | None) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    q, q_bias = effective(attention.q_proj)
    q_bias = None if q_bias is None else _repeats_first(q_bias, shape)
    k, v = effective(attention.k_proj), effective(attention.v_proj)
    out, out_bias = effective(attention.o_proj)
    return Layer(
        norm_attention=block.input_layernorm.weight.detach(),
        qkv=_stacked(narrow, (_repeats_first(q, shape), q_bias), k, v),
        q_norm=attention.q_norm.weight.detach() if hasattr(attention, "q_norm") else None,
        k_norm=attention.k_norm.weight.detach() if hasattr(attention, "k_norm") else None,
        out=Linear(_repeats_first(out.T, shape).T, out_bias, narrow),
        norm_mlp=block.post_attention_layernorm.weight.detach(),
        gate_up=_stacked(narrow, effective(mlp.gate_proj), effective(mlp.up_proj)),
        down=Linear(*effective(mlp.down_proj), narrow),
    )


def _repeats_first(rows: Tensor, shape: Shape) -> Tensor:
    """Query heads from (key head, repeat) to the cache's order (repeat, key head)."""
    grid = rows.unflatten(0, (shape.kv_heads, shape.repeats, shape.head_dim))
    return grid.transpose(0, 1).flatten(0, 2)


def _stacked(narrow: torch.dtype | None, *parts: tuple[Tensor, Tensor | None]) -> Linear:
    """Projections of the same input as one."""
    weights, biases = zip(*parts, strict=True)
    if all(b is None for b in biases):
        return Linear(torch.cat(weights), None, narrow)
    biases = [w.new_zeros(len(w)) if b is None else b for w, b in parts]
    return Linear(torch.cat(weights), torch.cat(biases), narrow)
