"""The journey of a tensor, in order: TokenSteps → Rollouts → Scored → Experience.

Each stage is frozen and contains the one before it. A stage that has been skipped is a missing
argument, not a field that happens to be None. Beside them stand the batches of offline learning:
DemonstrationBatch, ComparisonBatch and LabelledBatch; for these two beside a reference see
``referenced``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.data.ragged import Ragged, TensorRecord, offsets_of
from backflip.data.records import Tally


def _numbers(x: Any) -> list[int]:
    return x.tolist()


def won(rank: Sequence[int]) -> list[float]:
    """For each answer, the share of the others that it is ranked above; ties count half."""
    others = len(rank) - 1
    return [(sum((r > own) + (r == own) / 2 for r in rank) - 0.5) / others for own in rank]


def dense_mask(rows: Sequence[Sequence[bool]], steps: TokenSteps) -> Bool[Tensor, "B T"]:
    """A mask over the answers' tokens out of one list per answer."""
    mask = torch.zeros(len(rows), steps.width, dtype=torch.bool)
    for number, row in enumerate(rows):
        mask[number, : len(row)] = torch.as_tensor(row, dtype=torch.bool)
    return mask


def rewarded(rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """True where a reward is not 0, and on the last choice of each row."""
    last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)
    return (mask & (rewards != 0)) | last


@dataclass(frozen=True)
class TokenSteps(TensorRecord):
    """Prompts and answers as tokens: all that a language model needs to re-score its choices."""

    prompt: Ragged[Tensor]
    """Tokens that were given, template included."""
    answer: Ragged[Tensor]
    """Tokens from the first choice on, EOS included; tool output between choices included."""
    width: int
    """T: the length of the longest answer in the batch that this was cut from."""

    @staticmethod
    def of(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> TokenSteps:
        width = max((len(answer) for answer in answers), default=0)
        return TokenSteps(Ragged.of(prompts), Ragged.of(answers), width)

    @property
    def mask(self) -> Bool[Tensor, "B T"]:
        """True on tokens of the answer, False on what lies behind its end."""
        steps = torch.arange(self.width, device=self.answer.offsets.device)
        return steps < self.answer.lengths[:, None]

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        rows = torch.arange(len(self))
        return self, rows, rows

    def sequence(self, row: int) -> list[int]:
        """Prompt and answer of one row, as token ids."""
        prompt, answer = _numbers(self.prompt.row(row)), _numbers(self.answer.row(row))
        return prompt + answer


@dataclass(frozen=True)
class DemonstrationBatch(TensorRecord):
    """Conversations to imitate."""

    steps: TokenSteps
    mask: Bool[Tensor, "B T"]
    """True on the assistant's own tokens; False on later turns of the user."""
    weight: Float[Tensor, " B"]
    """How much each conversation counts; 1 unless the data says otherwise."""

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.steps.sequences()


@dataclass(frozen=True)
class ComparisonBatch(TensorRecord):
    """B prompts, each with K ≥ 2 answers that somebody put in order. A pair is K = 2."""

    answers: Ragged[TokenSteps]
    """The K answers of each prompt; every answer repeats its prompt, the forest shares it."""
    mask: Ragged[Tensor]
    """Bool[N T], rows as in ``answers``: True on the tokens that are compared, which are the
    assistant's own; False on later turns of the user."""
    imitated: Ragged[Tensor]
    """Bool[N T], likewise: True on the tokens that a likelihood beside the preference is of: all
    of the assistant's own, where ``mask`` may leave out those that end a turn."""
    rank: Ragged[Tensor]
    """Int, 0 is best; equal ranks are ties."""
    margin: Float[Tensor, " B"]
    """Score difference the labels call for (Llama 2's m(r)); 0 where nothing was said."""
    soft: Float[Tensor, " B"]
    """P(the better-ranked answer is better), for pairs; 1 where the label is hard."""
    weight: Float[Tensor, " B"]
    """How much each prompt counts; 1 unless the data says otherwise."""
    head: Int[Tensor, " B"]
    """Which of the model's scalar heads learns from the prompt; 0 unless a second is held out."""
    win: Ragged[Tensor]
    """Float, one per answer: P(it beats an answer of the policy), as SPPO estimates it; without
    estimates the share of the other answers that it is ranked above, ties counting half."""

    @staticmethod
    def of(
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[Sequence[int]]],
        ranks: Sequence[Sequence[int]],
        *,
        masks: Sequence[Sequence[Sequence[bool]]] | None = None,
        wins: Sequence[Sequence[float]] | None = None,
    ) -> ComparisonBatch:
        """Comparisons of tokens: hard labels without margins, each prompt counting once.

        ``masks`` marks the assistant's own tokens of every answer; without it they all are.
        """
        sizes = [len(row) for row in answers]
        flat = [tokens for row in answers for tokens in row]
        repeated = [p for p, size in zip(prompts, sizes, strict=True) for _ in range(size)]
        steps = TokenSteps.of(repeated, flat)
        offsets = offsets_of(torch.tensor(sizes, dtype=torch.long))
        mask = steps.mask if masks is None else dense_mask([m for row in masks for m in row], steps)
        return ComparisonBatch(
            answers=Ragged(steps, offsets),
            mask=Ragged(mask, offsets),
            imitated=Ragged(mask, offsets),
            rank=Ragged.of(ranks),
            margin=torch.zeros(len(sizes)),
            soft=torch.ones(len(sizes)),
            weight=torch.ones(len(sizes)),
            head=torch.zeros(len(sizes), dtype=torch.long),
            win=Ragged.of([won(r) for r in ranks] if wins is None else wins, torch.float32),
        )

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.answers.values, self.answers.owner(), torch.arange(len(self))


@dataclass(frozen=True)
class LabelledBatch(TensorRecord):
    """Single answers, each of them judged good or bad."""

    steps: TokenSteps
    mask: Bool[Tensor, "B T"]
    """True on the assistant's own tokens; False on later turns of the user."""
    label: Bool[Tensor, " B"]
    """True where the answer was judged good."""
    weight: Float[Tensor, " B"]
    """How much each answer counts; 1 unless the data says otherwise."""
    mismatched: TokenSteps
    """The same prompts, each with the answer to another: what KTO's KL is estimated from."""
    mismatched_mask: Bool[Tensor, "B T2"]
    """True on the assistant's own tokens of ``mismatched``."""

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.steps.sequences()


@dataclass(frozen=True)
class PromptBatch(TensorRecord):
    """B tokenised prompts that wait for answers."""

    tokens: Any
    """Ragged token ids."""
    row: Int[Tensor, " B"]
    """Number of each prompt's record."""


@dataclass(frozen=True)
class Played(TensorRecord):
    """The course of B episodes in an environment, beside the tokens."""

    rewards: Float[Tensor, "B T"]
    """Reward that the environment gave for each turn of the policy, on the turn's last choice."""
    turns: Int[Tensor, " B"]
    """Turns that the policy took."""
    calls: Int[Tensor, " B"]
    """Calls of tools that were made."""
    malformed: Int[Tensor, " B"]
    """Calls that could not be understood, by the environment or by the tool."""
    failed: Int[Tensor, " B"]
    """Calls whose tool raised, or took too long."""
    broken: Bool[Tensor, " B"]
    """True where the environment itself failed: the episode says nothing about the policy."""
    failures: Tally = dataclasses.field(default_factory=Tally)
    """Why, by reason, of the batch that was played."""


@dataclass(frozen=True)
class Rollouts(TensorRecord):
    """The choices of a policy: tokens it wrote, actions it took, or denoising steps it made."""

    steps: Any
    """Input for re-scoring the choices: TokenSteps, or a record."""
    mask: Bool[Tensor, "B T"]
    """True where the policy chose; False on tool output and behind the end."""
    logp: Float[Tensor, "B T"]
    """Log-probability of each choice, as reported by the sampler (nats)."""
    group: Int[Tensor, " B"]
    """Number of the prompt that the row answers."""
    finished: Bool[Tensor, " B"]
    """True where the policy ended by itself; False where a length limit cut it off."""
    row: Int[Tensor, " B"] = dataclasses.field(default=None)  # pyright: ignore
    """Number of the prompt's record, by which a judge finds it; ``group`` if not said."""
    played: Played | None = None
    """What an environment said beside the tokens; None where nobody but the policy acted."""
    version: Int[Tensor, "B T"] = dataclasses.field(default=None)  # pyright: ignore
    """Steps of learning behind the weights that made each choice; 0 where there is none, and if not
    said."""

    def __post_init__(self) -> None:
        if self.row is None:  # pyright: ignore[reportUnnecessaryComparison]
            object.__setattr__(self, "row", self.group)
        if self.version is None:  # pyright: ignore[reportUnnecessaryComparison]
            object.__setattr__(self, "version", torch.zeros_like(self.mask, dtype=torch.long))

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.steps, torch.arange(len(self)), self.group


@dataclass(frozen=True)
class Scored(TensorRecord):
    """Rollouts that have been judged."""

    rollouts: Rollouts
    rewards: Float[Tensor, "B T"]
    """Reward after each choice; one score for the whole answer stands on the last choice."""
    logp_old: Float[Tensor, "B T"]
    """Log-probability of each choice under the learner's weights before the update."""
    logp_ref: Float[Tensor, "B T"]
    """The same under the reference policy."""
    values: Float[Tensor, "B T"]
    """Score expected before each choice; zero without a value source."""
    states: Bool[Tensor, "B T"] = dataclasses.field(default=None)  # pyright: ignore
    """True on choices before which a value of its own stands; between two of them the value is the
    earlier one's, and the choices are one step. Every choice, if not said."""
    ends: Bool[Tensor, "B T"] = dataclasses.field(default=None)  # pyright: ignore
    """True on the last choice of each rewarded step; if not said where a reward is not 0, and on
    the last choice."""
    terms: Float[Tensor, "B K"] = dataclasses.field(default=None)  # pyright: ignore
    """Scores of the K sources of a mix before weighting; if not said the one sum of rewards."""
    weights: tuple[float, ...] = (1.0,)
    """Weights of these K in the sum."""

    def __post_init__(self) -> None:
        given = {
            "states": lambda: self.rollouts.mask,
            "ends": lambda: rewarded(self.rewards, self.rollouts.mask),
            "terms": lambda: self.total()[:, None],
        }
        for name, default in given.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default())

    def total(self) -> Float[Tensor, " B"]:
        """Σ of an answer's rewards."""
        return torch.where(self.rollouts.mask, self.rewards, 0.0).sum(-1)

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.rollouts.sequences()


@dataclass(frozen=True)
class Experience(TensorRecord):
    """Judged rollouts with credit assigned: all that a policy loss may look at."""

    scored: Scored
    advantages: Float[Tensor, "B T"]
    returns: Float[Tensor, "B T"]
    """Targets of a value function; zero where none is taught."""
    weight: Float[Tensor, "B T"] = dataclasses.field(default=None)  # pyright: ignore
    """Weight of each choice in the surrogate, without a gradient: the correction of a sampler that
    is not the learner; 1 if not said."""
    marked: Bool[Tensor, "B T"] = dataclasses.field(default=None)  # pyright: ignore
    """Choices that an algorithm picked out of the whole batch in ``prepare``; none until then."""

    def __post_init__(self) -> None:
        if self.weight is None:  # pyright: ignore[reportUnnecessaryComparison]
            object.__setattr__(self, "weight", torch.ones_like(self.advantages))
        if self.marked is None:  # pyright: ignore[reportUnnecessaryComparison]
            object.__setattr__(self, "marked", torch.zeros_like(self.scored.rollouts.mask))

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.scored.sequences()
