"""Attention over a prefix forest, registered with transformers.

On a CPU: one scaled dot product for each node against the keys of its ancestors. On CUDA:
FlexAttention with the block mask of the forest. The forest travels to every layer as the keyword
argument ``forest``, so that recomputation under activation checkpointing sees it too. A call
without a forest (``model(input_ids)``, ``generate``) gets the attention that the model came with.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.masking_utils import causal_mask_function

from backflip.models.forest import Forest, Node

NAME = "backflip_forest_over_"
_walking: ContextVar[Forest | None] = ContextVar("walking", default=None)


def use_forest(config: PreTrainedConfig) -> None:
    """Let the model of this config take a forest beside its own attention."""
    own = str(config._attn_implementation)
    if not own.startswith(NAME):
        AttentionInterface.register(NAME + own, functools.partial(_attention, own))
        AttentionMaskInterface.register(NAME + own, functools.partial(_attention_mask, own))
        config._attn_implementation = NAME + own


def use_own(config: PreTrainedConfig) -> None:
    """Give the model back the attention that it came with."""
    own = str(config._attn_implementation)
    if own.startswith(NAME):
        config._attn_implementation = own.removeprefix(NAME)


@dataclass(frozen=True)
class Sight:
    """How far a token sees along its branch: as far as the model's own mask lets it."""

    window: int | None = None
    """A query at p sees p − window + 1 … p; None, all that is before it."""
    chunk: int | None = None
    """A query at p sees from the last multiple of ``chunk`` on; None, from 0."""


FAR = Sight()
UNKNOWN = "a mask of another kind"
"""In place of a mask that no ``Sight`` describes. Some models make one that no layer uses."""


@contextlib.contextmanager
def walking(forest: Forest) -> Iterator[None]:
    """Inside, nobody builds a mask: layers get their ``Sight`` in its place."""
    token = _walking.set(forest)
    try:
        yield
    finally:
        _walking.reset(token)


def _attention(own: str, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if kwargs.get("forest") is not None:
        return forest_attention(module, *args, **kwargs)
    kwargs.pop("forest", None)
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    plain = eager if own == "eager" else AttentionInterface()[own]
    if plain is None:
        raise ValueError(f"{type(module).__name__} has no attention called {own!r}")
    return plain(module, *args, **kwargs)


def _attention_mask(own: str, *args: Any, **kwargs: Any) -> Any:
    forest = _walking.get()
    if forest is None:
        return AttentionMaskInterface()[own](*args, **kwargs)
    try:
        return sight_of(
            kwargs["mask_function"],
            kwargs.get("local_size"),
            forest.place.shape[1],
            forest.tokens.device,
        )
    except ValueError:
        return UNKNOWN


def sight_of(
    sees: Callable[..., Any],
    local: int | None,
    longest: int,
    device: torch.device | str = "cpu",
) -> Sight:
    """The sight that a mask function of transformers gives in rows of up to ``longest`` tokens.

    ``local``: the length that transformers says with a mask of windows or chunks.

    Raises ValueError for a mask of another kind.
    """
    if sees is causal_mask_function:
        return FAR
    if local is not None and local < 1:
        raise ValueError("a window of nothing")
    reach = [0] if local is None else [0, local - 1, local, local + 1, 2 * local, 2 * local + 1]
    queries = torch.tensor(sorted({min(max(q, 0), longest - 1) for q in (*reach, longest - 1)}))
    q, k = queries[:, None], torch.arange(longest)[None]
    zero = torch.zeros(1, dtype=torch.long, device=device)
    seen = (
        torch.as_tensor(sees(zero, zero, q.to(device), k.to(device)))
        .cpu()
        .expand(len(queries), longest)
    )
    candidates = [FAR] if local is None or local >= longest else [Sight(local), Sight(chunk=local)]
    for sight in candidates:
        if torch.equal(
            seen, (k <= q) & (q - k < (sight.window or longest)) & (k >= _first(q, sight))
        ):
            return sight
    raise ValueError("a mask that is neither causal nor one of windows or chunks")


def _first(positions: Tensor, sight: Sight) -> Tensor:
    """The first position of each query's chunk."""
    chunk = sight.chunk
    return torch.zeros_like(positions) if chunk is None else positions // chunk * chunk


def forest_attention(
    module: nn.Module,
    query: Float[Tensor, "1 H N D"],
    key: Float[Tensor, "1 G N D"],
    value: Float[Tensor, "1 G N D"],
    attention_mask: Any = None,
    scaling: float | None = None,
    *,
    forest: Forest,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "1 N H D"], None]:
    """Attend along the branches of ``forest``; H query heads share G heads of keys and values.

    ``attention_mask``: what ``walking`` gave to the layer in place of a mask. Only where a model
    asks for none does ``sliding_window`` count. Both count positions, not places in the packed
    row. ``softcap`` is Gemma 2's cap·tanh(score/cap). What else transformers hands to a layer's
    attention is not used: of dropout there is none, see ``dropout.without_dropout``.
    """
    if not isinstance(attention_mask, Sight | None):
        raise TypeError(f"not how far a token sees: {attention_mask}")
    sight = attention_mask or Sight(sliding_window)
    scale = float(query.shape[-1] ** -0.5 if scaling is None else scaling)
    # Under autocast rotations and norms leave queries and keys wider than values.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if query.device.type == "cuda":
        out = _flex(query, key, value, forest, scale, sight, softcap)
    else:
        out = _by_node(query, key, value, forest, scale, sight, softcap)
    return out.transpose(1, 2), None


def _by_node(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scaling: float,
    sight: Sight,
    softcap: float | None,
) -> Float[Tensor, "1 H N D"]:
    # split, not slices: its backward is one concatenation instead of one full-size sum per node.
    lengths = [node.end - node.start for node in forest.nodes]
    queries, keys, values = (x.split(lengths, dim=2) for x in (query, key, value))
    outputs = []
    for number, node in enumerate(forest.nodes):
        path = (*node.path, number)
        k = torch.cat([keys[i] for i in path], dim=2) if node.path else keys[number]
        v = torch.cat([values[i] for i in path], dim=2) if node.path else values[number]
        mask = _mask(forest, number, sight) if node.path or sight != FAR else None
        if softcap:
            outputs.append(_capped(queries[number], k, v, mask, scaling, softcap))
        else:
            outputs.append(
                nnf.scaled_dot_product_attention(
                    queries[number],
                    k,
                    v,
                    attn_mask=mask,
                    is_causal=mask is None,
                    scale=scaling,
                    enable_gqa=query.shape[1] != key.shape[1],
                )
            )
    return torch.cat(outputs, dim=2)


@functools.lru_cache(maxsize=4096)
def _causal_mask(size: int, before: int, sight: Sight = FAR) -> Float[Tensor, "Q K"]:
    """0 where a query may look, −inf where not. Query i stands ``before + i`` tokens from 0."""
    q = torch.arange(before, before + size)[:, None]
    k = torch.arange(before + size)[None, :]
    seen = (k <= q) & (q - k < (sight.window or 1 << 62)) & (k >= _first(q, sight))
    return torch.zeros(size, before + size).masked_fill(~seen, float("-inf"))


def _mask(forest: Forest, number: int, sight: Sight) -> Float[Tensor, "Q K"]:
    node: Node = forest.nodes[number]
    before = sum(forest.nodes[i].end - forest.nodes[i].start for i in node.path)
    return _causal_mask(node.end - node.start, before, sight)


def _capped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, softcap: float
) -> Tensor:
    """Attention with soft-capped scores, which no fused kernel offers on a CPU."""
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * scaling / softcap)
    if mask is None:
        mask = _causal_mask(q.shape[2], 0)
    return (scores + mask).softmax(-1).to(v.dtype) @ v


def _flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    scaling: float,
    sight: Sight,
    softcap: float | None,
) -> Float[Tensor, "1 H N D"]:
    cap = _number(softcap or 0.0, query.device)
    capped = (lambda s, b, h, q, k: cap * torch.tanh(s / cap)) if softcap else None
    if torch.is_grad_enabled():
        # The backward kernel walks through the queries of each key head one after the other: with
        # two key heads it leaves most of the device idle.
        repeat = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    return _compiled_flex()(
        query,
        key,
        value,
        score_mod=capped,
        block_mask=block_mask(forest, sight),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


@functools.cache
def _number(value: float, device: torch.device) -> Float[Tensor, ""]:
    """A number as a tensor: compiled for shapes that vary, a kernel cannot close over a float."""
    return torch.tensor(value, device=device)


@functools.cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def block_mask(forest: Forest, sight: Sight = FAR) -> Any:
    """FlexAttention's block mask of a forest, made once for all layers that see as far."""
    if sight not in forest.masks:
        forest.masks[sight] = _new_block_mask(forest, sight)
    return forest.masks[sight]


def _new_block_mask(forest: Forest, sight: Sight) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    end, position, size = forest.subtree_end, forest.positions, len(forest)
    reach, first = sight.window or 1 << 30, _first(position, sight)
    # A lambda, because run-time type checkers wrap functions and FlexAttention counts arguments.
    return create_block_mask(
        lambda b, h, q, k: (
            (k <= q)
            & (q < end[k])
            & (position[q] - position[k] < reach)
            & (position[k] >= first[q])
        ),
        None,
        None,
        size,
        size,
        device=str(end.device),
    )
