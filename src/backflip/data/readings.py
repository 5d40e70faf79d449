"""Rows as a model reads them: the text of their tokens, and which of these are learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from backflip.data.batches import ComparisonBatch, DemonstrationBatch, LabelledBatch, TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.collate import (
    Fit,
    Tokenized,
    tokenize_comparisons,
    tokenize_demonstrations,
    tokenize_labelled,
    tokenize_prompts,
)
from backflip.data.records import Comparison, Demonstration, Labelled, Prompt, Record, Solution
from backflip.data.solution_batches import SolutionBatch, tokenize_solutions
from backflip.errors import UserError
from backflip.text import counted

ROWS = 2
"""Rows that are shown."""
TRIED = 20
"""Rows that are looked at for some that fit."""


@dataclass(frozen=True)
class Reading:
    """One answer with its prompt, or a prompt alone."""

    where: str
    """The row that it came from."""
    about: str
    """Its place among the answers, or its label; empty where there is none."""
    spans: tuple[tuple[str, bool], ...]
    """The text in pieces; True for the tokens that are learnt."""


def first_readings(
    records: Sequence[Record], template: ChatTemplate, max_length: int | None = None
) -> tuple[Reading, ...]:
    """The first rows that fit, tokenised as for training with every turn learnt."""
    kinds: dict[type[Any], Callable[..., Tokenized[Any]]] = {
        Demonstration: tokenize_demonstrations,
        Comparison: tokenize_comparisons,
        Labelled: tokenize_labelled,
        Prompt: tokenize_prompts,
        Solution: tokenize_solutions,
    }
    some = list(records[:TRIED])
    if not some:
        return ()
    try:
        made = kinds[type(some[0])](some, template, fit=Fit(max_length))
    except UserError:  # none of them fits: the audit says so, with the reasons
        return ()
    return readings(made, some, template.tokenizer)


def readings(
    made: Tokenized[Any], records: Sequence[Record], tokenizer: Any
) -> tuple[Reading, ...]:
    """The first rows of a tokenised dataset; ``records`` are those that it was made of."""
    found: list[Reading] = []
    for row, number in enumerate(made.kept[:ROWS]):
        where = str(records[number].where)
        found += [Reading(where, *said) for said in _row(made.data, row, tokenizer)]
    return tuple(found)


def _row(data: Any, row: int, tokenizer: Any) -> list[tuple[str, tuple[tuple[str, bool], ...]]]:
    """Remarks on each answer of a row, and its spans."""
    if isinstance(data, ComparisonBatch):
        first, last = int(data.answers.offsets[row]), int(data.answers.offsets[row + 1])
        ranks = [int(rank) for rank in data.rank.values[first:last]]
        whole = [
            _spans(data.answers.values, data.mask.values, i, tokenizer) for i in range(first, last)
        ]
        again = [whole[0], *(_without_prompt(spans) for spans in whole[1:])]
        return list(zip((_place(rank, ranks) for rank in ranks), again, strict=True))
    if isinstance(data, LabelledBatch):
        label = "good" if bool(data.label[row]) else "bad"
        return [(label, _spans(data.steps, data.mask, row, tokenizer))]
    if isinstance(data, SolutionBatch):
        about = f"{counted(len(data.ends.row(row)), 'labelled step')}, read where marked"
        return [(about, _spans(data.steps, data.read, row, tokenizer))]
    if isinstance(data, DemonstrationBatch):
        return [("", _spans(data.steps, data.mask, row, tokenizer))]
    return [("", ((_text(tokenizer, data.row(row).tolist()), False),))]


def _place(rank: int, ranks: Sequence[int]) -> str:
    if len(set(ranks)) == 1:
        return "tied"
    names = {0: "chosen", 1: "rejected"} if len(ranks) == 2 else {}
    return names.get(rank, f"rank {rank + 1} of {len(ranks)}")


def _spans(steps: TokenSteps, mask: Any, row: int, tokenizer: Any) -> tuple[tuple[str, bool], ...]:
    ids, prompt = steps.sequence(row), len(steps.prompt.row(row))
    learnt = [False] * prompt + mask[row][: len(ids) - prompt].tolist()
    found: list[tuple[str, bool]] = []
    end, before = 0, ""
    for own, run in groupby(learnt):
        end += len(list(run))
        upto = _text(tokenizer, ids[:end])
        found.append((upto[len(before) :], own))
        before = upto
    return tuple(found)


def _without_prompt(spans: tuple[tuple[str, bool], ...]) -> tuple[tuple[str, bool], ...]:
    """The answer alone, where another one shows the prompt."""
    return (("… ", False), *spans[1:]) if not spans[0][1] else spans


def _text(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
