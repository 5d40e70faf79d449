"""Decoding through a model's own forward pass: any causal LM of transformers.

Rows advance together, in cohorts of prompts of the same length, so that nothing is ever padded:
absolute positions, sliding windows and soft caps are what the model makes of them. A row that has
finished leaves; a new cohort begins when the last row of the old one is done.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from backflip.generate.decoding import Waiting, distinct_prompts
from backflip.models.trunk import unwrapped


class ModelDecoder:
    """The model itself, in eval mode from ``start`` to ``finish``."""

    def __init__(self, model: nn.Module) -> None:
        lm = unwrapped(model)
        if lm.get_output_embeddings() is None:
            raise ValueError(f"{type(lm).__name__} has no language-model head: give the causal LM")
        self.model: Any = model
        self.device: torch.device = next(model.parameters()).device
        self.cache: Any = None
        self.rows = 0
        self.training: list[nn.Module] = []
        takes = inspect.signature(lm.forward).parameters
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def start(self, max_rows: int) -> None:
        """Forget everybody; ``max_rows`` bounds the cohorts."""
        self.cache, self.rows = None, 0
        self.training = [m for m in self.model.modules() if m.training]
        self.model.eval()

    def finish(self) -> None:
        """Forget everybody; modules that were training train again."""
        self.cache, self.rows = None, 0
        for module in self.training:
            module.training = True
        self.training = []

    def admit(self, waiting: Sequence[Waiting], free: int) -> Float[Tensor, "n V"]:
        """Open a cohort: the waiting at the front whose prompts are equally long."""
        if self.rows or not waiting:
            return torch.zeros(0, self.model.config.vocab_size, device=self.device)
        length = len(waiting[0].tokens)
        taken = list(itertools.takewhile(lambda w: len(w.tokens) == length, waiting[:free]))
        new = distinct_prompts(taken)
        row_of = {w.prompt: row for row, w in enumerate(new)}
        logits = self._forward(torch.tensor([list(w.tokens) for w in new], device=self.device))
        pick = torch.tensor([row_of[w.prompt] for w in taken], device=self.device)
        self.cache.reorder_cache(pick)
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
            self.cache.reorder_cache(torch.tensor(rows, device=self.device))

    def _forward(self, tokens: Int[Tensor, "R N"]) -> Float[Tensor, "R V"]:
        out = self.model(
            input_ids=tokens,
            past_key_values=self.cache if self.rows else None,
            use_cache=True,
            **self.last_only,
        )
        self.cache = out.past_key_values
        return out.logits[:, -1]
