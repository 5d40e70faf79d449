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
from backflip.models import attention, positions, probing
from backflip.models.dropout import evaluating, settle, without_dropout
from backflip.models.forest import Forest, plant
from backflip.models.quantized import experts

GROWN = frozenset(("llama", "mistral", "qwen2", "qwen3", "gpt2", "gemma2", "gemma3_text"))
"""Model types that tests know to take the forest, however long the rows: they are spared the probe
of the ways to read, and are asked only whether they are causal."""
SLOWER = {
    "padded": "; sequences are padded instead, and prompts are computed once per answer: expect 2 "
    "to 4 times the time.",
    "alone": ", and padding changes what it says of an answer. Each sequence is read alone: expect "
    "several times the time.",
}


class Trunk(nn.Module):
    """A transformers model without its head."""

    def __init__(self, model: nn.Module, compute: torch.dtype | None = None) -> None:
        """``model``: a causal LM or a classifier of transformers, plain or wrapped by peft.

        ``compute``: multiply in this type and keep the weights in theirs; None, in theirs too.
        """
        super().__init__()
        self.model = model
        self.compute = compute
        without_dropout(model)
        self.rotary = positions.rotary(model)
        self.last_position = positions.last_position(self.whole)
        self.experts = experts(self.config)
        """Of a mixture; 0 for a dense model."""
        self.way = "alone"
        self.way = self._way()
        """How rows are read: as a forest, padded, or alone."""

    @property
    def forest(self) -> bool:
        """Whether what rows share is computed once."""
        return self.way == "forest"

    @property
    def whole(self) -> Any:
        """The transformers model, without peft's wrapper around it."""
        return unwrapped(self.model)

    @property
    def body(self) -> Any:
        """The transformer below the head."""
        whole = self.whole
        body = whole.base_model
        # Some classes name a base model that they do not have.
        return body if body is not whole else getattr(whole, "model", whole)

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
        settle(self.model)
        positions.check_length(self.whole, max(map(len, sequences)), self.last_position)
        if not self.rotary and not chooses(self.config):  # else its length decides
            sequences = as_far_as_read(sequences, rows, columns)
        with computing_in(self.compute, self.device):
            groups = self._companies(sequences)
            if len(groups) == 1:
                hidden, place = self._together(sequences)
                return hidden[place[rows.cpu(), columns.cpu()].to(self.device)]
            parts, order = [], []
            for group in groups:
                hidden, place = self._together([sequences[row] for row in group])
                for number, row in enumerate(group):
                    asked = (rows.cpu() == row).nonzero()[:, 0]
                    parts.append(hidden[place[number, columns.cpu()[asked]].to(self.device)])
                    order.append(asked)
            return torch.cat(parts)[torch.cat(order).argsort().to(self.device)]

    def _companies(self, sequences: Sequence[list[int]]) -> list[list[int]]:
        """Numbers of the rows that are read together: that does not change what each of them is."""
        if self.way == "alone":
            return [[row] for row in range(len(sequences))]
        return positions.companies(self.rotary, [len(sequence) for sequence in sequences])

    def _together(
        self, sequences: Sequence[list[int]]
    ) -> tuple[Float[Tensor, "N D"], Int[Tensor, "S L"]]:
        """Hidden states of one forward pass, and which of them belongs to token p of sequence s."""
        positions.reset(self.rotary)
        try:
            if self.forest:
                forest = plant(sequences)
                return self._walk(forest.to(self.device)), forest.place
            hidden = self.padded(sequences)
            place = torch.arange(hidden.shape[0] * hidden.shape[1]).view(hidden.shape[:2])
            return hidden.flatten(0, 1), place
        finally:
            positions.reset(self.rotary)

    def _walk(self, forest: Forest) -> Float[Tensor, "N D"]:
        with attention.walking(forest):
            out = self.body(
                input_ids=forest.tokens[None],
                position_ids=forest.positions[None],
                # All ones: without any, the positions would be taken for those of packed rows.
                attention_mask=torch.ones_like(forest.tokens)[None],
                use_cache=False,
                forest=forest,
            )
        return out.last_hidden_state[0]

    def padded(self, sequences: Sequence[list[int]]) -> Float[Tensor, "S L D"]:
        """Right padding, for models that cannot take a forest; a single row is not padded."""
        if len(sequences) == 1:
            tokens = torch.tensor([list(sequences[0])], device=self.device)
            return self.body(input_ids=tokens, use_cache=False).last_hidden_state
        tokens, mask = (part.to(self.device) for part in right_padded(sequences))
        out = self.body(input_ids=tokens, attention_mask=mask, use_cache=False)
        return out.last_hidden_state

    @torch.no_grad()
    def _way(self) -> str:
        """Put the model to the test; see ``probing``."""
        if self.device.type == "meta":  # sizes without numbers: there is nothing to read
            return "forest"
        kind, vocabulary = self.config.model_type, int(self.config.get_text_config().vocab_size)
        alone, *faster = (self._reader(way) for way in ("alone", "forest", "padded"))
        with evaluating(self.model):
            probing.check_causal(kind, vocabulary, alone)
            if kind in GROWN:
                self._read_as("forest")
                return "forest"
            number = probing.fastest(vocabulary, self.model, alone, faster)
        way = "alone" if number is None else ("forest", "padded")[number]
        self._read_as(way)
        if way != "forest":
            warnings.warn(f"{kind} cannot take the prefix forest{SLOWER[way]}", stacklevel=4)
        return way

    def _read_as(self, way: str) -> None:
        """Some models look for the name of their attention: it is the forest's only where used."""
        self.way = way
        # The body's own config may be another object than the whole model's.
        (attention.use_forest if way == "forest" else attention.use_own)(self.body.config)

    def _reader(self, way: str) -> probing.Reader:
        def read(rows: list[list[int]]) -> list[Tensor]:
            self._read_as(way)
            out: dict[int, Tensor] = {}
            for group in self._companies(rows):
                hidden, place = self._together([rows[row] for row in group])
                for number, row in enumerate(group):
                    out[row] = hidden[place[number, : len(rows[row])].to(self.device)]
            return [out[row] for row in range(len(rows))]

        return read


def chooses(config: Any) -> bool:
    """Whether tokens choose whom they see among all of their row (sparse attention)."""
    return getattr(config.get_text_config(), "index_topk", None) is not None


def as_far_as_read(
    sequences: Sequence[list[int]], rows: Int[Tensor, " M"], columns: Int[Tensor, " M"]
) -> list[list[int]]:
    """Sequences without the tokens behind the last one whose hidden state is asked for.

    Nothing before sees them: of an answer that is judged token by token, the last is only chosen.
    """
    ends = torch.ones(len(sequences), dtype=torch.long)  # a row of which nothing is asked keeps one
    ends.scatter_reduce_(0, rows.cpu(), columns.cpu() + 1, "amax")
    return [s[:end] for s, end in zip(sequences, ends.tolist(), strict=True)]


def unwrapped(model: nn.Module) -> Any:
    """The transformers model inside a peft model, or the model itself."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(model, "get_base_model") else model


def computing_in(
    dtype: torch.dtype | None, device: torch.device
) -> contextlib.AbstractContextManager[Any]:
    """Inside, products are taken in ``dtype``; None, in the type of the weights."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def right_padded(
    sequences: Sequence[list[int]],
) -> tuple[Int[Tensor, "S L"], Int[Tensor, "S L"]]:
    """Tokens with zeros behind the end of each row, and a mask that is 1 on the tokens."""
    longest = max(len(s) for s in sequences)
    tokens = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
    lengths = torch.tensor([len(s) for s in sequences])
    return tokens, (torch.arange(longest) < lengths[:, None]).long()


def before_answer(steps: TokenSteps) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Rows and columns of the token before each token of the answers: where it was chosen."""
    rows, answer_columns = steps.mask.nonzero(as_tuple=True)
    return rows, answer_columns + steps.prompt.lengths[rows] - 1


def dense(flat: Float[Tensor, " M"], steps: TokenSteps) -> Float[Tensor, "B T"]:
    """Numbers of ``before_answer``, laid out by row and answer position; 0 behind the end."""
    mask = steps.mask.to(flat.device)
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)
