"""Decoding through a model's own forward pass: any causal LM of transformers.

Rows advance together, in cohorts of prompts of the same length, so that nothing is ever padded:
absolute positions, sliding windows and soft caps are what the model makes of them. A row that has
finished leaves; a new cohort begins when the last row of the old one is done. Where a model's own
cache does not give what reading the whole row gives, rows are read anew for every token.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from backflip.generate.torch.decoding import Waiting, distinct_prompts
from backflip.models import positions, probing
from backflip.models.dropout import evaluating
from backflip.models.trunk import unwrapped

FIRST = 8
"""Tokens of a probe's row that are read at once."""


class ModelDecoder:
    """The model itself, in eval mode from ``start`` to ``finish``."""

    def __init__(self, model: nn.Module, *, cached: bool | None = None) -> None:
        """``cached``: whether the model's own cache is right; None, put it to the test."""
        lm = unwrapped(model)
        if lm.get_output_embeddings() is None:
            raise ValueError(f"{type(lm).__name__} has no language-model head: give the causal LM")
        self.model: Any = model
        self.device: torch.device = next(model.parameters()).device
        self.rotary = positions.rotary(model)
        self.cache: Any = None
        self.rows = 0
        self.read: Int[Tensor, "R N"] | None = None
        """All tokens of each row, where there is no cache."""
        self.training: list[nn.Module] = []
        takes = inspect.signature(lm.forward).parameters
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.cached = True if cached is None else cached
        if cached is None:
            self.cached = self._cache_is_right()

    def start(self, max_rows: int, max_tokens: int) -> None:
        """Forget everybody; ``max_rows`` bounds the cohorts."""
        self._forget()
        self.training = [m for m in self.model.modules() if m.training]
        self.model.eval()

    def remember(self, row: int, tokens: Sequence[int]) -> None:
        """Nothing: what such a model has read is read anew."""

    def finish(self) -> None:
        """Forget everybody; modules that were training train again."""
        self._forget()
        for module in self.training:
            module.training = True
        self.training = []

    def _forget(self) -> None:
        self.cache, self.read, self.rows = None, None, 0
        positions.reset(self.rotary)

    def admit(self, waiting: Sequence[Waiting], free: int) -> Float[Tensor, "n V"]:
        """Open a cohort: the waiting at the front whose prompts are equally long."""
        if self.rows or not waiting:
            return torch.zeros(0, self._vocabulary, device=self.device)
        length = len(waiting[0].tokens)
        taken = list(itertools.takewhile(lambda w: len(w.tokens) == length, waiting[:free]))
        new = distinct_prompts(taken)
        row_of = {w.prompt: row for row, w in enumerate(new)}
        logits = self._forward(torch.tensor([list(w.tokens) for w in new], device=self.device))
        pick = torch.tensor([row_of[w.prompt] for w in taken], device=self.device)
        self._reorder(pick)
        self.rows = len(taken)
        return logits[pick]

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "R V"]:
        """Read one more token per row; the logits of the next."""
        return self._forward(torch.tensor(tokens, device=self.device)[:, None])

    def idle(self, alive: Sequence[bool]) -> bool:
        """Never: a row that has ended costs as much as one that goes on."""
        del alive
        return False

    def keep(self, rows: Sequence[int]) -> None:
        """Row i becomes what row ``rows[i]`` was; rows that are not named have left."""
        self.rows = len(rows)
        if self.rows:
            self._reorder(torch.tensor(rows, device=self.device))

    def _reorder(self, rows: Int[Tensor, " R"]) -> None:
        if self.read is not None:
            self.read = self.read[rows]
        else:
            self.cache.reorder_cache(rows)

    @property
    def _vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    def _forward(self, tokens: Int[Tensor, "R N"]) -> Float[Tensor, "R V"]:
        if not self.cached:
            before = self.read if self.rows else None
            self.read = tokens if before is None else torch.cat([before, tokens], dim=1)
            return self.model(input_ids=self.read, use_cache=False, **self.last_only).logits[:, -1]
        out = self.model(
            input_ids=tokens,
            past_key_values=self.cache if self.rows else None,
            use_cache=True,
            **self.last_only,
        )
        self.cache = out.past_key_values
        return out.logits[:, -1]

    @torch.no_grad()
    def _cache_is_right(self) -> bool:
        """Put the model's cache to the test; see ``probing``."""

        def whole(rows: probing.Rows) -> list[Tensor]:
            tokens = torch.tensor(rows, device=self.device)
            logits = self.model(input_ids=tokens, use_cache=False).logits
            return [logits[row, FIRST - 1 :].float().log_softmax(-1) for row in (1, 0)]

        def stepwise(rows: probing.Rows) -> list[Tensor]:
            tokens = torch.tensor(rows, device=self.device)
            said = [self._forward(tokens[:, :FIRST]).flip(0)]
            self._reorder(torch.tensor([1, 0], device=self.device))
            self.rows = len(rows)
            said += [self._forward(column[:, None]) for column in tokens.flip(0)[:, FIRST:].T]
            self.keep([1])  # a row has ended: not every cache lets it go (MiniMax's)
            self._forward(tokens[:1, :1])
            return list(torch.stack(said, dim=1).float().log_softmax(-1))

        with evaluating(self.model):
            try:
                return probing.keeps(self._vocabulary, self.model, whole, stepwise)
            finally:
                self._forget()


@torch.no_grad()
def causal_up_to(model: Any) -> float:
    """Longest row in which what a model says of a token does not hang on those behind it."""
    device = next(model.parameters()).device

    def alone(rows: probing.Rows) -> list[Tensor]:
        given = [torch.tensor([row], device=device) for row in rows]
        return [model(input_ids=tokens, use_cache=False).logits[0] for tokens in given]

    with evaluating(model):
        positions.reset(positions.rotary(model))
        vocabulary = int(model.config.get_text_config().vocab_size)
        return probing.causal_up_to(vocabulary, model, alone)


def own_forward(model: nn.Module, cached: bool | None) -> ModelDecoder:
    """Decoding through the model itself; its cache is put to the test where nobody has yet."""
    decoder = ModelDecoder(model, cached=cached)
    if cached is None and not decoder.cached:
        warnings.warn(
            f"{unwrapped(model).config.model_type} reads its own answers in another way from its "
            "cache than at once, or has none: answers are read anew for each token, which takes "
            "several times as long.",
            stacklevel=5,
        )
    return decoder
