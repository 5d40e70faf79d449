"""Records → tokens, once, for the whole dataset; then batches of it in a reproducible order."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from backflip.data.batches import (
    ComparisonBatch,
    DemonstrationBatch,
    LabelledBatch,
    TokenSteps,
    dense_mask,
    won,
)
from backflip.data.chat import ChatTemplate, Turns
from backflip.data.conversations import split_at_last_answer
from backflip.data.ragged import Ragged
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Messages,
    Prompt,
    Provenance,
    Tally,
)
from backflip.errors import UserError

Data = TypeVar("Data")
TOO_LONG = ("drop", "cut")
TURNS = ("all", "last")


class NoneLeftError(UserError):
    """None of the records could be used."""

    def __init__(self, sentence: str, dropped: Tally) -> None:
        super().__init__(sentence)
        self.dropped = dropped


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
    stage = Collation(template, fit or Fit())
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
    stage = Collation(template, fit or Fit())
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


def tokenize_labelled(
    records: Sequence[Labelled],
    template: ChatTemplate,
    *,
    fit: Fit | None = None,
    seed: int = 0,
) -> Tokenized[LabelledBatch]:
    """Judged answers as tokens, each prompt with its own answer and with that of another row.

    Which other row, ``seed`` decides once: the pairs stay the same in every epoch, so that a
    reference is asked about them once. Where prompt and foreign answer together exceed
    ``max_length``, this copy of the prompt loses its start.
    """
    stage = Collation(template, fit or Fit())
    where = [record.where for record in records]
    encoded = stage.encode([[(r.prompt, r.answer)] for r in records], where)
    kept, rows = stage.fitted(encoded, where)
    turns = [row[0] for row in rows]
    others = [turns[i] for i in mismatched([records[i].prompt for i in kept], seed=seed)]
    pairs = list(zip(turns, others, strict=True))
    steps = TokenSteps.of([t.prompt for t in turns], [t.answer for t in turns])
    foreign = TokenSteps.of(
        [stage.shortened(own.prompt, len(other.answer)) for own, other in pairs],
        [other.answer for other in others],
    )
    data = LabelledBatch(
        steps=steps,
        mask=dense_mask([t.mask for t in turns], steps),
        label=torch.tensor([records[i].label for i in kept], dtype=torch.bool),
        weight=_floats([records[i].weight for i in kept]),
        mismatched=foreign,
        mismatched_mask=dense_mask([other.mask for other in others], foreign),
    )
    return stage.finished(data, kept, len(records), "labelled answer")


def mismatched(prompts: Sequence[Hashable], *, seed: int = 0) -> list[int]:
    """For each row another row, whose answer it is paired with; each row is taken once.

    Never a row with the same prompt, unless more than half of all rows have that prompt, and then
    as seldom as can be; never the row itself, unless it is the only one. Rows lie in a random order
    of prompts and are shifted by as many as the most frequent prompt has.
    """
    generator = torch.Generator().manual_seed(seed)
    groups: dict[Hashable, list[int]] = {}
    shuffled: Any = torch.randperm(len(prompts), generator=generator)
    for row in shuffled.tolist():
        groups.setdefault(prompts[row], []).append(row)
    order = [row for rows in groups.values() for row in rows]
    shift = max((len(rows) for rows in groups.values()), default=0)
    shift = shift if shift < len(order) else 1
    taken = dict(zip(order, [*order[shift:], *order[:shift]], strict=True))
    return [taken[row] for row in range(len(prompts))]


def tokenize_prompts(
    records: Sequence[Prompt], template: ChatTemplate, *, fit: Fit | None = None
) -> Tokenized[Ragged[Tensor]]:
    """Prompts as tokens, ready for the assistant to speak; ``max_length`` counts the prompt."""
    stage = Collation(template, fit or Fit())
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


class Collation:
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

    def shortened(self, prompt: list[int], answer: int) -> list[int]:
        """The prompt, without its start where it does not fit beside ``answer`` tokens."""
        whole = replace(self.fit, too_long="cut")
        fitted = whole.prompt(prompt, answer, self.template.tokenizer.bos_token_id)
        return fitted if isinstance(fitted, list) else prompt[-1:]

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
            raise NoneLeftError(
                f"no {noun} out of {total} is left to learn from: {why}", self.dropped
            )
        return Tokenized(data, tuple(kept), self.dropped, self.cut)


def _demonstration_parts(record: Demonstration, turns: str) -> Part:
    if turns == "last":
        return split_at_last_answer(record.messages)
    return record.prompt, record.messages[len(record.prompt) :]


def _floats(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def with_head(data: ComparisonBatch, head: Tensor) -> ComparisonBatch:
    """The same comparisons, each to be learnt by the scalar head of this number."""
    return replace(data, head=head)
