"""Models that say a number: how good is this answer, how good will it become."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from backflip.data.batches import TokenSteps
from backflip.data.ragged import TensorRecord
from backflip.models.causal import hidden_size
from backflip.models.packing import plan
from backflip.models.trunk import Trunk, before_answer, dense

POOLINGS = ("last", "mean")


@dataclass(frozen=True)
class Reading:
    """The place where a score is read: the last token of a sequence that is not padding.

    Classifiers of transformers read there, and read the text as their chat template writes it,
    which may go on behind the end of an answer.
    """

    padding: int | None = None
    """Token to look past; None reads the last token, whatever it is."""
    end: tuple[int, ...] = ()
    """Tokens that end an answer here."""
    written: tuple[int, ...] = ()
    """Tokens that the template writes in their place."""

    def whole(self, sequence: list[int]) -> list[int]:
        """A sequence as the template writes it; one that is cut off stays as it is."""
        if not self.end or tuple(sequence[-len(self.end) :]) != self.end:
            return sequence
        return [*sequence[: -len(self.end)], *self.written]

    def place(self, sequence: list[int]) -> int:
        """Column of the token that is read; the first where all are padding."""
        columns = range(len(sequence) - 1, 0, -1)
        return next((at for at in columns if sequence[at] != self.padding), 0)


class RewardModel(nn.Module):
    """A transformer with H scalar heads: one score per answer, read at its last token.

    The first ``members`` heads judge, as an ensemble where there are several. One behind them is
    held out: it learns from comparisons that they never see, and tells whether a policy that
    pleases them is getting better or only pleasing them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        heads: int = 1,
        members: int = 1,
        pooling: str = "last",
        compute: torch.dtype | None = None,
        reading: Reading | None = None,
    ) -> None:
        """``model``: a causal LM or a classifier of transformers; its own head is not used.

        Head weights start from N(0, 1/√(d+1)), no bias (Stiennon et al., 2020). ``members``: how
        many of the heads judge.
        ``compute``: the type to multiply in; None, that of the weights. ``reading``: where the
        score is read; None, at the last token of the answer.
        """
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is one of {', '.join(POOLINGS)}; got {pooling!r}")
        self.trunk = Trunk(model, compute)
        self.pooling, self.members = pooling, members
        self.reading = reading or Reading()
        width = hidden_size(self.trunk)
        self.score = nn.Linear(width, heads, bias=False, device=self.trunk.device)
        nn.init.normal_(self.score.weight, std=1 / math.sqrt(width + 1))
        self.register_buffer("mean", torch.zeros(heads, device=self.trunk.device))
        self.register_buffer("std", torch.ones(heads, device=self.trunk.device))

    @property
    def heads(self) -> int:
        return self.score.out_features

    @property
    def device(self) -> torch.device:
        return self.trunk.device

    def raw_scores(self, steps: TokenSteps) -> Float[Tensor, "B heads"]:
        """Scores as the heads give them, float32."""
        return self._pooled(steps, lambda hidden: self.score(hidden.to(self.score.weight.dtype)))

    def features(self, steps: TokenSteps) -> Float[Tensor, "B D"]:
        """Hidden states that the scores are read off, float32; their mean with pooling mean."""
        return self._pooled(steps, lambda hidden: hidden)

    def _pooled(
        self, steps: TokenSteps, read: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "B width"]:
        """What ``read`` makes of the hidden states of each answer, float32."""
        sequences = [self.reading.whole(steps.sequence(i)) for i in range(len(steps))]
        rows, columns = self._read(steps, sequences)
        found = read(self.trunk(sequences, rows, columns))
        if self.pooling == "last":
            return found.float()
        rows = rows.to(found.device)
        total = found.new_zeros(len(steps), found.shape[1]).index_add(0, rows, found)
        return (total / torch.bincount(rows, minlength=len(steps))[:, None]).float()

    def raw_scores_at(
        self, steps: TokenSteps, rows: Int[Tensor, " M"], columns: Int[Tensor, " M"]
    ) -> Float[Tensor, "M heads"]:
        """Scores read at ``columns`` of the answers of ``rows``, float32: those of steps."""
        sequences = [steps.sequence(i) for i in range(len(steps))]
        at = columns + steps.prompt.lengths[rows]
        return self.score(self.trunk(sequences, rows, at).to(self.score.weight.dtype)).float()

    def scores(self, steps: TokenSteps) -> Float[Tensor, "B heads"]:
        """Scores on the normalised scale: mean 0, std 1 on the answers of ``normalise``."""
        return (self.raw_scores(steps) - self.mean) / self.std

    def normalise(self, raw: Float[Tensor, "N heads"]) -> None:
        """Take mean and std of these raw scores as the zero and the unit from now on."""
        self.mean.copy_(raw.mean(0))
        self.std.copy_(raw.std(0).clamp(min=1e-6))

    def plan(self, batch: TensorRecord, token_budget: int) -> list[Int[Tensor, " n"]]:
        return plan(batch, token_budget, forest=self.trunk.forest)

    def _read(
        self, steps: TokenSteps, sequences: list[list[int]]
    ) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
        """Where scores are read: the last token of each answer, or all of its tokens."""
        if self.pooling == "last":
            columns = [self.reading.place(sequence) for sequence in sequences]
            return torch.arange(len(sequences)), torch.tensor(columns, dtype=torch.long)
        rows, columns = before_answer(steps)
        return rows, columns + 1


class ValueModel(nn.Module):
    """A critic: the score expected before each token of an answer is chosen."""

    def __init__(
        self,
        model: nn.Module,
        head: Float[Tensor, "1 D"] | None = None,
        *,
        compute: torch.dtype | None = None,
    ) -> None:
        """``head``: weights to start from (a reward model's); zeros where there are none.

        ``compute``: the type to multiply in; None, that of the weights.
        """
        super().__init__()
        self.trunk = Trunk(model, compute)
        self.value = nn.Linear(hidden_size(self.trunk), 1, device=self.trunk.device)
        nn.init.zeros_(self.value.bias)
        with torch.no_grad():
            self.value.weight.zero_() if head is None else self.value.weight.copy_(head)

    @property
    def device(self) -> torch.device:
        return self.trunk.device

    def values(self, steps: TokenSteps) -> Float[Tensor, "B T"]:
        """Expected return before each token of the answers; 0 behind their ends."""
        rows, columns = before_answer(steps)
        sequences = [steps.sequence(i) for i in range(len(steps))]
        hidden = self.trunk(sequences, rows, columns)
        return dense(self.value(hidden.to(self.value.weight.dtype)).float()[:, 0], steps)

    def plan(self, batch: TensorRecord, token_budget: int) -> list[Int[Tensor, " n"]]:
        return plan(batch, token_budget, forest=self.trunk.forest)
