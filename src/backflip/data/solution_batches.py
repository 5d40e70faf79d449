"""Solutions with labelled steps → tokens, with the places at which their steps end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.data.batches import TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Collation, Fit, Tokenized
from backflip.data.ragged import Ragged, TensorRecord
from backflip.data.records import GOOD, Message, Messages, Solution, StepLabel
from backflip.data.steps import SEPARATOR, StepFinder

__all__ = ["SolutionBatch", "tokenize_solutions"]


@dataclass(frozen=True)
class SolutionBatch(TensorRecord):
    """Solutions of which some steps are labelled."""

    steps: TokenSteps
    ends: Ragged[Tensor]
    """Int, columns of the answer at which labelled steps end."""
    labels: Ragged[Tensor]
    """Float[n 3], P(bad), P(neutral), P(good) of each of these steps."""
    number: Ragged[Tensor]
    """Int, places of these steps in the solution, from 0."""
    whole: Bool[Tensor, " B"]
    """Whether all steps are labelled up to the end of the answer."""
    weight: Float[Tensor, " B"]
    """How much each solution counts; 1 unless the data says otherwise."""

    @property
    def read(self) -> Bool[Tensor, "B T"]:
        """True on the tokens at which labelled steps end."""
        mask = torch.zeros_like(self.steps.mask)
        mask[self.ends.owner(), self.ends.values] = True
        return mask

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.steps.sequences()


def tokenize_solutions(
    records: Sequence[Solution],
    template: ChatTemplate,
    *,
    fit: Fit | None = None,
    separator: str = SEPARATOR,
) -> Tokenized[SolutionBatch]:
    """Solutions as tokens with the ends of their labelled steps.

    Steps are joined by ``separator``. Every alternative of a step is a row of its own, behind the
    steps before it. A solution that is not finished ends with a separator, not with the turn.
    """
    stage, finder = Collation(template, fit or Fit()), StepFinder(template, separator)
    made = [(number, one) for number, record in enumerate(records) for one in spread(record)]
    where = [one.where for _, one in made]
    parts = [[(one.prompt, _text(one, separator))] for _, one in made]
    fitted, rows = stage.fitted(stage.encode(parts, where), where)
    kept, found = list[int](), list[_Row]()
    for place, (turns,) in zip(fitted, rows, strict=True):
        number, one = made[place]
        answer = turns.answer if one.finished else _open(turns.answer, template.stop_tokens)
        row = _row(one, finder, turns.prompt, answer)
        if row is None:
            stage.dropped.add("ends of steps are not found in the tokens", one.where)
        else:
            kept.append(number)
            found.append(row)
    data = SolutionBatch(
        steps=TokenSteps.of([row.prompt for row in found], [row.answer for row in found]),
        ends=Ragged.of([row.ends for row in found]),
        labels=_stacked([row.labels for row in found]),
        number=Ragged.of([row.numbers for row in found]),
        whole=torch.tensor([row.whole for row in found]),
        weight=torch.tensor([records[i].weight for i in kept], dtype=torch.float32),
    )
    return stage.finished(data, kept, len(records), "solution")


@dataclass(frozen=True)
class _Row:
    """One solution as tokens, with its labelled steps."""

    prompt: list[int]
    answer: list[int]
    ends: list[int]
    labels: list[StepLabel]
    numbers: list[int]
    whole: bool


def spread(record: Solution) -> list[Solution]:
    """A solution and its alternatives, each of these as a solution that ends there, unfinished."""
    main = [] if all(label is None for label in record.labels) else [record]
    others = [
        Solution(
            record.prompt,
            (*record.steps[: one.place], one.text),
            (*[None] * one.place, one.label),
            finished=False,
            weight=record.weight,
            where=record.where,
        )
        for one in record.alternatives
    ]
    return [replace(one, alternatives=()) for one in main] + others


def _text(one: Solution, separator: str) -> Messages:
    """The answer; behind the last step of one that goes on stands a separator."""
    return (Message("assistant", separator.join(one.steps) + separator * (not one.finished)),)


def _row(one: Solution, finder: StepFinder, prompt: list[int], answer: list[int]) -> _Row | None:
    """A row; None where steps do not end in the tokens as they do in the text."""
    ends, upto = finder.ends(answer, finished=one.finished), finder.in_text(one.steps)
    if len(ends) != upto[-1]:
        return None
    known = [(n, label) for n, label in enumerate(one.labels) if label is not None]
    whole = one.finished and len(known) == len(one.steps)
    numbers, labels = [n for n, _ in known], [label for _, label in known]
    return _Row(prompt, answer, [ends[upto[n] - 1] for n in numbers], labels, numbers, whole)


def _open(answer: list[int], stops: Sequence[int]) -> list[int]:
    """An answer without the token that ends its turn."""
    while answer and answer[-1] in stops:
        answer = answer[:-1]
    return answer


def _stacked(rows: Sequence[Sequence[StepLabel]]) -> Ragged[Tensor]:
    flat = [label for row in rows for label in row]
    values = torch.tensor(flat, dtype=torch.float32).reshape(-1, len(GOOD))
    offsets = Ragged.of([[0] * len(row) for row in rows]).offsets
    return Ragged(values, offsets)
