"""From token sequences to hidden states, by the prefix forest where the model can take it.

``Trunk`` hides how: what leaves it are hidden states at the places that were asked for.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from backflip.data.batches import TokenSteps
from backflip.models import attention
from backflip.models.forest import Forest, plant

GROWN = frozenset(("llama", "mistral", "qwen2", "qwen3", "gpt2", "gemma2", "gemma3_text"))
"""Model types known to take the forest. Others are tried once, on a few tokens."""


class Trunk(nn.Module):
    """A transformers model without its head."""

    def __init__(self, model: nn.Module, compute: torch.dtype | None = None) -> None:
        """``model``: a causal LM or a classifier of transformers, plain or wrapped by peft.

        ``compute``: multiply in this type and keep the weights in theirs; None, in theirs too.
        """
        super().__init__()
        self.model = model
        self.compute = compute
        self.forest = self._takes_forest()

    @property
    def whole(self) -> Any:
        """The transformers model, without peft's wrapper around it."""
        return unwrapped(self.model)

    @property
    def body(self) -> Any:
        """The transformer below the head."""
        return self.whole.base_model

    @property
    def config(self) -> Any:
        return self.whole.config

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def forward(
        self, sequences: Sequence[list[int]], rows: Int[Tensor, " M"], columns: Int[Tensor, " M"]
    ) -> Float[Tensor, "M D"]:
        """Hidden states after token ``columns[m]`` of sequence ``rows[m]``.

        In the type of the weights or in ``compute``: who multiplies on must cast.
        """
        with self._computing():
            if self.forest:
                forest = plant(sequences)
                hidden = self._walk(forest.to(self.device))
                return hidden[forest.place[rows.cpu(), columns.cpu()].to(self.device)]
            hidden = self.padded(sequences)
            return hidden[rows.to(self.device), columns.to(self.device)]

    def _computing(self) -> contextlib.AbstractContextManager[Any]:
        if self.compute is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.compute)

    def _walk(self, forest: Forest) -> Float[Tensor, "N D"]:
        with attention.walking():
            out = self.body(
                input_ids=forest.tokens[None],
                position_ids=forest.positions[None],
                attention_mask=None,
                use_cache=False,
                forest=forest,
            )
        return out.last_hidden_state[0]

    def padded(self, sequences: Sequence[list[int]]) -> Float[Tensor, "S L D"]:
        """Right padding, for models that cannot take a forest."""
        longest = max(len(s) for s in sequences)
        tokens = torch.zeros(len(sequences), longest, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            tokens[row, : len(sequence)] = torch.tensor(sequence)
        lengths = torch.tensor([len(s) for s in sequences])
        mask = (torch.arange(longest) < lengths[:, None]).long()
        out = self.body(
            input_ids=tokens.to(self.device), attention_mask=mask.to(self.device), use_cache=False
        )
        return out.last_hidden_state

    def _takes_forest(self) -> bool:
        # The body's own config may be another object than the whole model's.
        config = self.body.config
        own = config._attn_implementation
        attention.use_forest(config)
        if self.config.model_type in GROWN:
            return True
        if self._agrees():
            return True
        config._attn_implementation = own
        warnings.warn(
            f"{self.config.model_type} cannot take the prefix forest; sequences are padded "
            "instead, and prompts are computed once per answer: expect 2 to 4 times the time.",
            stacklevel=3,
        )
        return False

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Whether a forest of two short branches gives what two padded rows give."""
        vocabulary = int(self.config.vocab_size)
        start = [(7 * i + 3) % vocabulary for i in range(8)]
        pair = [start + [5 % vocabulary] * 3, start + [6 % vocabulary] * 5]
        training = self.model.training
        self.model.eval()
        try:
            forest = plant(pair)
            grown = self._walk(forest.to(self.device))
            padded = self.padded(pair)
            return all(
                torch.allclose(
                    grown[forest.place[row, : len(s)]], padded[row, : len(s)], atol=1e-3, rtol=1e-3
                )
                for row, s in enumerate(pair)
            )
        except (TypeError, ValueError, RuntimeError, KeyError, AttributeError):
            return False
        finally:
            self.model.train(training)


def unwrapped(model: nn.Module) -> Any:
    """The transformers model inside a peft model, or the model itself."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(model, "get_base_model") else model


def before_answer(steps: TokenSteps) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Rows and columns of the token before each token of the answers: where it was chosen."""
    rows, answer_columns = steps.mask.nonzero(as_tuple=True)
    return rows, answer_columns + steps.prompt.lengths[rows] - 1


def dense(flat: Float[Tensor, " M"], steps: TokenSteps) -> Float[Tensor, "B T"]:
    """Numbers of ``before_answer``, laid out by row and answer position; 0 behind the end."""
    mask = steps.mask.to(flat.device)
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)
