"""Records → tokens, once, for the whole dataset; then batches of it in a reproducible order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from backflip.data.batches import (
    ComparisonBatch,
    DemonstrationBatch,
    LabelledBatch,
    Ragged,
    ReferencedComparisons,
    ReferencedLabels,
    TensorRecord,
    TokenSteps,
    dense_mask,
    won,
)
from backflip.data.chat import ChatTemplate, Turns, split_at_last_answer
from backflip.data.errors import UserError
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Messages,
    Prompt,
    Provenance,
    Tally,
)

Data = TypeVar("Data")
TOO_LONG = ("drop", "cut")
TURNS = ("all", "last")


@dataclass(frozen=True)
class Tokenized(Generic[Data]):
    """A whole dataset as tokens, and what did not make it."""

    data: Data
    """DemonstrationBatch, ComparisonBatch, or Ragged prompts: index rows, or use Batches."""
    kept: tuple[int, ...]
    """For each row of ``data``, the number of the record that it came from."""
    dropped: Tally
    """Records left out, by reason."""
    cut: int
    """Prompts that lost tokens on the left."""


@dataclass(frozen=True)
class Fit:
    """How records are made to fit.

    ``too_long`` says what becomes of a record over ``max_length`` tokens (prompt and answer):
    ``drop`` counts and drops it, ``cut`` removes the start of its prompt, never a token of the
    answer.
    """

    max_length: int | None = None
    too_long: str = "drop"

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 2:
            raise UserError(f"max_length is {self.max_length} tokens; it must be at least 2")
        if self.too_long not in TOO_LONG:
            known = " or ".join(TOO_LONG)
            raise UserError(f"too_long={self.too_long!r} is not known; use {known}")

    def prompt(self, prompt: list[int], answer: int, bos: int | None) -> list[int] | str:
        """The prompt, cut if need be to leave room for ``answer`` tokens; or why it cannot be."""
        if self.max_length is None or len(prompt) + answer <= self.max_length:
            return prompt
        if self.too_long == "drop":
            return f"longer than {self.max_length} tokens"
        room = self.max_length - answer
        start = prompt[:1] if prompt.count(prompt[0]) == 1 and prompt[0] == bos else []
        if room < len(start) + 1:
            return f"answer alone fills {self.max_length} tokens"
        return start + prompt[len(prompt) - room + len(start) :]


def tokenize_demonstrations(
    records: Sequence[Demonstration],
    template: ChatTemplate,
    *,
    fit: Fit | None = None,
    turns: str = "all",
) -> Tokenized[DemonstrationBatch]:
    """Conversations as tokens, with the mask of what is learnt.

    Args:
        records: what to imitate.
        template: how messages become tokens.
        fit: maximal length, and what happens beyond it.
        turns: learn every turn of the assistant, or the last one only.

    """
    if turns not in TURNS:
        raise UserError(f"turns={turns!r} is not known; use {' or '.join(TURNS)}")
    stage = _Stage(template, fit or Fit())
    pairs = [_demonstration_parts(record, turns) for record in records]
    encoded = stage.encode([[pair] for pair in pairs], [r.where for r in records])
    kept, rows = stage.fitted(encoded, [r.where for r in records])
    steps = TokenSteps.of([t[0].prompt for t in rows], [t[0].answer for t in rows])
    data = DemonstrationBatch(
        steps=steps,
        mask=dense_mask([t[0].mask for t in rows], steps),
        weight=_floats([records[i].weight for i in kept]),
    )
    return stage.finished(data, kept, len(records), "demonstration")


def tokenize_comparisons(
    records: Sequence[Comparison], template: ChatTemplate, *, fit: Fit | None = None
) -> Tokenized[ComparisonBatch]:
    """Prompts with their ordered answers as tokens. Answers that became equal are left out."""
    stage = _Stage(template, fit or Fit())
    where = [record.where for record in records]
    encoded = stage.encode([[(r.prompt, a) for a in r.answers] for r in records], where)
    kept, rows = stage.fitted(encoded, where)
    kept, rows, ranks = stage.distinct(kept, rows, [r.rank for r in records], where)
    data = replace(
        ComparisonBatch.of(
            [row[0].prompt for row in rows],
            [[turns.answer for turns in row] for row in rows],
            ranks,
            masks=[[turns.mask for turns in row] for row in rows],
            wins=[records[i].win or won(rank) for i, rank in zip(kept, ranks, strict=True)],
        ),
        margin=_floats([records[i].margin for i in kept]),
        soft=_floats([records[i].soft for i in kept]),
        weight=_floats([records[i].weight for i in kept]),
    )
    return stage.finished(data, kept, len(records), "comparison")


def tokenize_prompts(
    records: Sequence[Prompt], template: ChatTemplate, *, fit: Fit | None = None
) -> Tokenized[Ragged[Tensor]]:
    """Prompts as tokens, ready for the assistant to speak; ``max_length`` counts the prompt."""
    stage = _Stage(template, fit or Fit())
    kept: list[int] = []
    rows: list[list[int]] = []
    tokens = template.prompts([record.messages for record in records])
    for number, row in enumerate(tokens):
        fitted = row if isinstance(row, BadRecordError) else stage.fit_prompt(row, 0)
        if isinstance(fitted, list):
            kept.append(number)
            rows.append(fitted)
        else:
            reason = fitted.reason if isinstance(fitted, BadRecordError) else fitted
            stage.dropped.add(reason, records[number].where)
    return stage.finished(Ragged.of(rows), kept, len(records), "prompt")


Part: TypeAlias = tuple[Messages, Messages]


class _Stage:
    """One pass over a dataset: what it drops and cuts."""

    def __init__(self, template: ChatTemplate, fit: Fit) -> None:
        self.template = template
        self.fit = fit
        self.dropped = Tally()
        self.cut = 0

    def encode(
        self, rows: Sequence[Sequence[Part]], where: Sequence[Provenance]
    ) -> list[tuple[int, list[Turns]]]:
        """Tokens of every row that the template takes."""
        flat = iter(self.template.answers([part for row in rows for part in row]))
        encoded: list[tuple[int, list[Turns]]] = []
        for number, row in enumerate(rows):
            results = [next(flat) for _ in row]
            errors = [result for result in results if isinstance(result, BadRecordError)]
            if errors:
                self.dropped.add(errors[0].reason, where[number])
            else:
                encoded.append((number, [r for r in results if isinstance(r, Turns)]))
        return encoded

    def fit_prompt(self, prompt: list[int], answer: int) -> list[int] | str:
        bos = self.template.tokenizer.bos_token_id
        fitted = self.fit.prompt(prompt, answer, bos)
        self.cut += isinstance(fitted, list) and len(fitted) < len(prompt)
        return fitted

    def fitted(
        self, encoded: Sequence[tuple[int, list[Turns]]], where: Sequence[Provenance]
    ) -> tuple[list[int], list[list[Turns]]]:
        """Rows within the length; the answers of a row go on sharing their prompt."""
        kept: list[int] = []
        rows: list[list[Turns]] = []
        for number, row in encoded:
            prompt = self.fit_prompt(row[0].prompt, max(len(turns.answer) for turns in row))
            if isinstance(prompt, str):
                self.dropped.add(prompt, where[number])
                continue
            kept.append(number)
            rows.append([replace(turns, prompt=prompt) for turns in row])
        return kept, rows

    def distinct(
        self,
        kept: Sequence[int],
        rows: Sequence[list[Turns]],
        ranks: Sequence[tuple[int, ...]],
        where: Sequence[Provenance],
    ) -> tuple[list[int], list[list[Turns]], list[list[int]]]:
        """Leave out rows whose answers are the same tokens: nobody can prefer one of them."""
        out: tuple[list[int], list[list[Turns]], list[list[int]]] = ([], [], [])
        for number, row in zip(kept, rows, strict=True):
            if len({tuple(turns.answer) for turns in row}) < len(row):
                self.dropped.add("answers identical as tokens", where[number])
                continue
            out[0].append(number)
            out[1].append(row)
            out[2].append(list(ranks[number]))
        return out

    def finished(self, data: Data, kept: Sequence[int], total: int, noun: str) -> Tokenized[Data]:
        if not kept:
            why = "; ".join(self.dropped.lines()) or "there were none"
            raise UserError(f"no {noun} out of {total} is left to learn from: {why}")
        return Tokenized(data, tuple(kept), self.dropped, self.cut)


def _demonstration_parts(record: Demonstration, turns: str) -> Part:
    if turns == "last":
        return split_at_last_answer(record.messages)
    return record.prompt, record.messages[len(record.prompt) :]


def _floats(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


# ---- batches


def _narrow_steps(steps: TokenSteps) -> TokenSteps:
    width = int(steps.answer.lengths.max()) if len(steps) else 0
    return replace(steps, width=width)


def narrowed(data: Any) -> Any:
    """The same rows, with T as long as their own longest answer and no longer."""
    if isinstance(data, DemonstrationBatch):
        steps = _narrow_steps(data.steps)
        return replace(data, steps=steps, mask=data.mask[:, : steps.width])
    if isinstance(data, ComparisonBatch):
        offsets, steps = data.answers.offsets, _narrow_steps(data.answers.values)
        mask = Ragged(data.mask.values[:, : steps.width], offsets)
        return replace(data, answers=Ragged(steps, offsets), mask=mask)
    if isinstance(data, LabelledBatch):
        steps, other = _narrow_steps(data.steps), _narrow_steps(data.mismatched)
        return replace(
            data,
            steps=steps,
            mask=data.mask[:, : steps.width],
            mismatched=other,
            mismatched_mask=data.mismatched_mask[:, : other.width],
        )
    if isinstance(data, ReferencedComparisons):
        return replace(data, comparisons=narrowed(data.comparisons))
    if isinstance(data, ReferencedLabels):
        return replace(data, labelled=narrowed(data.labelled))
    return data


Rows = TypeVar("Rows", bound="TensorRecord | Ragged[Any]")


class Batches(Generic[Rows]):
    """Batches of a dataset, epoch after epoch, in an order that only the seed decides.

    The order of epoch e is a permutation drawn from (seed, e). The position is already behind a
    batch when the batch is handed out: save it with the step's checkpoint, and the resumed run
    goes on with the next batch.

    Args:
        data: the rows.
        size: rows in a batch.
        seed: decides the order of every epoch.
        epochs: passes over the data; None goes on for ever.
        shuffle: False keeps the order of the data.
        drop_last: leave out the last, smaller batch of each epoch.

    """

    def __init__(
        self,
        data: Rows,
        *,
        size: int,
        seed: int = 0,
        epochs: int | None = 1,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        if size < 1:
            raise UserError(f"the batch size is {size}; it must be at least 1")
        if drop_last and len(data) < size:
            raise UserError(
                f"{len(data)} rows do not fill one batch of {size}; lower the batch size"
            )
        if len(data) == 0:
            raise UserError("there are no rows to make batches of")
        self.data = data
        self.size, self.seed, self.epochs = size, seed, epochs
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch, self.position = 0, 0

    @property
    def per_epoch(self) -> int:
        """Batches in one epoch."""
        full = len(self.data) // self.size
        return full if self.drop_last else -(-len(self.data) // self.size)

    def __len__(self) -> int:
        """Batches in all epochs, those handed out included."""
        if self.epochs is None:
            raise TypeError("batches without a number of epochs go on for ever")
        return self.per_epoch * self.epochs

    def order(self, epoch: int) -> Tensor:
        """Row numbers in the order of this epoch."""
        if not self.shuffle:
            return torch.arange(len(self.data))
        generator = torch.Generator().manual_seed(_mixed(self.seed, epoch))
        return torch.randperm(len(self.data), generator=generator)

    def __iter__(self) -> Iterator[Rows]:
        while self.epochs is None or self.epoch < self.epochs:
            order = self.order(self.epoch)
            while self.position < self.per_epoch:
                start = self.position * self.size
                self.position += 1
                yield narrowed(cast("Any", self.data)[order[start : start + self.size]])
            self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where the next batch stands, and what must be the same to find it there."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where ``state`` was taken. Refuses another seed, batch size or dataset."""
        for key, now in self._identity().items():
            if state.get(key) != now:
                raise UserError(
                    f"cannot resume the data: {key} was {state.get(key)} and is {now} now; "
                    "resume with the same data and settings, or start a new run"
                )
        self.epoch, self.position = state["epoch"], state["position"]

    def _identity(self) -> dict[str, int]:
        return {
            "rows": len(self.data),
            "size": self.size,
            "seed": self.seed,
            "shuffle": int(self.shuffle),
            "drop_last": int(self.drop_last),
        }


def _mixed(seed: int, epoch: int) -> int:
    """One number out of two, so that epoch 1 of seed 0 is not epoch 0 of seed 1."""
    import hashlib

    digest = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def with_head(data: ComparisonBatch, head: Tensor) -> ComparisonBatch:
    """The same comparisons, each to be learnt by the scalar head of this number."""
    return replace(data, head=head)
