"""Decoding with the packed network of the Llama family.

Prompts are read without padding, and the answers of a prompt share its keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from backflip.generate.torch.cache import CHUNK, SharedCache, read_by
from backflip.generate.torch.decoding import Waiting, distinct_prompts
from backflip.generate.torch.graphs import IDLE, STEADY, Recorder, StepGraph, StepInputs, cuda_graph
from backflip.generate.torch.llama import LlamaNetwork
from backflip.generate.torch.prefixes import Prefixes

PREFILL_TOKENS = 4096


class LlamaDecoder:
    """Writes tokens with a ``LlamaNetwork``; knows nothing of sampling."""

    def __init__(self, model: nn.Module, narrow: torch.dtype | None = None) -> None:
        """Copy and pack the weights of a model that ``why_not`` has nothing against.

        ``narrow``: the type of matrix products; None, the model's own.

        Raises:
            UnsupportedLayerError: some layer is not plain.

        """
        self.network = LlamaNetwork(model, narrow)
        self.cache: SharedCache | None = None
        self.first: dict[int, Tensor] = {}
        self.prefixes: Prefixes | None = None
        """Keys that the next calls may go on from; None keeps none."""
        self.record: Recorder | None = cuda_graph if self.network.embedding.is_cuda else None
        """How steps are recorded; None, where launching costs little, reads each one anew."""
        self.graph: StepGraph | None = None
        self.lasted = (0, 0)
        """An arrangement of rows, and the steps that it has lasted."""

    def start(self, max_rows: int, max_tokens: int) -> None:
        """Forget everybody; ``max_rows`` answers of ``max_tokens`` at most will be open at once."""
        self.first, self.graph, self.lasted = {}, None, (0, 0)
        network, shape = self.network, self.network.shape
        self.cache = SharedCache(
            layers=len(network.layers),
            kv_heads=shape.kv_heads,
            repeats=shape.repeats,
            head_dim=shape.head_dim,
            max_rows=max_rows,
            room=min(CHUNK, max_tokens),
            like=network.embedding,
        )

    def remember(self, row: int, tokens: Sequence[int]) -> None:
        """Keep the keys of a row that has ended, if a conversation is going on."""
        if self.prefixes is not None:
            self.prefixes.add(tokens, read_by(self._running(), row))

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
            embedding = self.network.embedding
            return embedding.new_zeros(0, len(embedding))
        return torch.stack([self.first[w.prompt] for w in taken])

    def _prefill(self, cache: SharedCache, prompts: Sequence[Waiting]) -> None:
        """Read prompts end to end: products over all of them, attention prompt by prompt.

        A beginning that is kept is not read again.
        """
        device = self.network.embedding.device
        kept = [self.prefixes and self.prefixes.take(w.tokens) for w in prompts]
        known = [0 if kv is None else kv.shape[1] for kv in kept]
        fresh = [w.tokens[n:] for w, n in zip(prompts, known, strict=True)]
        lengths = [len(tokens) for tokens in fresh]
        slots = [cache.add_prompt(w.prompt, len(w.tokens), w.answers) for w in prompts]
        tokens = torch.tensor([t for new in fresh for t in new], device=device)
        begun = zip(known, lengths, strict=True)
        places = torch.cat([torch.arange(n, n + more, device=device) for n, more in begun])
        cosine, sine = self.network.turns(places, max(len(w.tokens) for w in prompts))

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            seen = []
            parts = zip(slots, kept, q.split(lengths), kv.split(lengths), strict=True)
            for slot, old, qs, kvs in parts:
                whole = kvs if old is None else torch.cat([old[layer], kvs])
                cache.write_prompt(layer, slot, whole)
                seen.append(self.network.causal(qs, whole))
            return torch.cat(seen)

        hidden = self.network.hidden(tokens, cosine, sine, attend)
        ends = torch.tensor(lengths, device=device).cumsum(0) - 1
        for w, row in zip(prompts, self.network.logits(hidden[ends]), strict=True):
            self.first[w.prompt] = row

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "R V"]:
        """Read one more token per row; the logits of the next."""
        cache = self._running()
        positions = cache.positions()
        cache.advance(fixed=self.record is not None)
        device = self.network.embedding.device
        places = torch.tensor(positions, device=device)
        cosine, sine = self.network.turns(places, max(positions) + 1)
        read = torch.tensor(tokens, device=device)
        inputs = StepInputs(read, cosine, sine, cache.write_at, cache.own_bias)
        if self.record is None:
            return self._read(inputs)
        return self._replayed(inputs, cache.arrangement, self.record)

    def _read(self, inputs: StepInputs) -> Float[Tensor, "R V"]:
        cache = self._running()

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            return cache.attend(layer, q, kv, inputs.write_at, inputs.own_bias)

        hidden = self.network.hidden(inputs.tokens, inputs.cosine, inputs.sine, attend)
        return self.network.logits(hidden)

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
