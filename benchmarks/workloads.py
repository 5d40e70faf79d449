"""The rows that both sides learn from: HH, tokenised once, in the order of the file.

Rows that TRL would drop or cut (over ``MAX_LENGTH`` tokens) are left out first. Both sides read the
same token ids from one JSON file, so that neither depends on the other's tokenizer.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

MAX_LENGTH = 512
"""Tokens of prompt and answer together."""
ANSWER_TOKENS = 64
"""Longest answer that is sampled."""
GROUP = 8
"""Answers sampled for each prompt."""
WIDE_GROUP = 16
"""Answers written for each prompt where writing is all there is."""
WIDE_PROMPTS, LABELS = 4, 16
"""Rows in one batch of prompts where writing is all there is, and of labelled answers."""


@dataclass(frozen=True)
class Rows:
    """Rows in one batch of comparisons, demonstrations and prompts."""

    pairs: int = 8
    conversations: int = 8
    prompts: int = 2


FEW = Rows()
"""As many as a processor takes."""


class Pair(TypedDict):
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class Demonstration(TypedDict):
    prompt: list[int]
    answer: list[int]


class Label(TypedDict):
    prompt: list[int]
    answer: list[int]
    label: bool
    mismatched: list[int]
    """The answer of another row of the batch, for KTO's KL."""


class Prompt(TypedDict):
    tokens: list[int]
    messages: list[dict[str, str]]


class Ranking(TypedDict):
    prompt: list[int]
    answers: list[list[int]]
    """Best first."""


class Workload(TypedDict):
    """One JSON file. Of each list of batches the first is the warm-up, and is not timed."""

    model: str
    dtype: str
    stop: int
    pad: str
    """A token that ends no answer. Padded with the stop token, transformers' classifiers would
    read the score one token too early."""
    pairs: list[list[Pair]]
    demonstrations: list[list[Demonstration]]
    prompts: list[list[Prompt]]
    wide: list[list[Prompt]]
    labels: list[list[Label]]
    rankings: list[list[Ranking]]
    """For the curves alone."""
    lora: NotRequired[bool]
    """Whether adapters learn, and the weights below them do not."""
    at_once: NotRequired[int]
    """Sequences of ``MAX_LENGTH`` tokens, padding counted, that a side learns from side by side at
    most. Without it the peer takes a whole batch, and ours what suits the machine."""
    rate: NotRequired[float]
    """Operations a second of large products on this device, where that is known beforehand."""


def hh_source() -> str:
    """The rows at hand (``$BACKFLIP_SHARED`` or ``../shared``), or else the hub's."""
    root = Path(__file__).resolve().parents[1]
    shared = Path(os.environ.get("BACKFLIP_SHARED", root.parent / "shared"))
    local = shared / "data" / "hh_harmless.jsonl.gz"
    return str(local) if local.is_file() else "Anthropic/hh-rlhf"


def build(
    model: str, data: str, *, batches: int, dtype: str = "float32", rows: Rows = FEW
) -> Workload:
    """``batches`` timed batches of each kind, after one for the warm-up."""
    from backflip.data.chat import ChatTemplate
    from backflip.data.formats import load
    from backflip.data.records import Comparison
    from backflip.models.load import load_tokenizer

    size = batches + 1
    tokenizer = load_tokenizer(model)
    template = ChatTemplate(tokenizer)
    records = load(data, Comparison, limit=4 * max(rows.pairs, LABELS // 2) * size).records
    pairs = _pairs(records, template)
    demonstrations: list[Demonstration] = [
        {"prompt": pair["prompt"], "answer": pair["chosen"]} for pair in pairs
    ]
    prompts = _prompts(records, template)
    return Workload(
        model=model,
        dtype=dtype,
        stop=tokenizer.eos_token_id,
        pad=next(t for t in tokenizer.all_special_tokens if t != tokenizer.eos_token),
        pairs=_cut(pairs, rows.pairs, size),
        demonstrations=_cut(demonstrations, rows.conversations, size),
        prompts=_cut(prompts, rows.prompts, size),
        wide=_cut(prompts, WIDE_PROMPTS, size),
        labels=_labels(pairs, size),
        rankings=[],
    )


def _pairs(records: list[Any], template: Any) -> list[Pair]:
    from backflip.data.collate import Fit, tokenize_comparisons

    data = tokenize_comparisons(records, template, fit=Fit(MAX_LENGTH)).data
    rows: list[Pair] = []
    for row in range(len(data)):
        answers, ranks = data.answers.row(row), data.rank.row(row).tolist()
        best = ranks.index(0)
        rows.append(
            {
                "prompt": answers.prompt.row(0).tolist(),
                "chosen": answers.answer.row(best).tolist(),
                "rejected": answers.answer.row(1 - best).tolist(),
            }
        )
    return rows


def _labels(pairs: list[Pair], batches: int) -> list[list[Label]]:
    """Both answers of every pair, shuffled; the mismatched answer is that of the row before."""
    half = LABELS // 2
    if len(pairs) < half * batches:
        raise SystemExit(f"{len(pairs)} pairs do not fill {batches} batches of {LABELS} answers")
    rows = [(p, side) for p in pairs[: half * batches] for side in ("chosen", "rejected")]
    random.Random(0).shuffle(rows)
    cut: list[list[Label]] = []
    for batch in _cut(rows, LABELS, batches):
        answers: list[list[int]] = [pair[side] for pair, side in batch]
        cut.append(
            [
                {
                    "prompt": pair["prompt"],
                    "answer": pair[side],
                    "label": side == "chosen",
                    "mismatched": before,
                }
                for (pair, side), before in zip(batch, answers[-1:] + answers[:-1], strict=True)
            ]
        )
    return cut


def _prompts(records: list[Any], template: Any) -> list[Prompt]:
    from backflip.data.collate import Fit, tokenize_prompts
    from backflip.data.records import Prompt as Record

    rows = [Record(record.prompt, record.where) for record in records]
    found = tokenize_prompts(rows, template, fit=Fit(MAX_LENGTH - ANSWER_TOKENS))
    return [
        {
            "tokens": tokens.tolist(),
            "messages": [{"role": m.role, "content": m.content} for m in rows[kept].messages],
        }
        for tokens, kept in zip(found.data.rows(), found.kept, strict=True)
    ]


def _cut(rows: list[Any], size: int, batches: int) -> list[list[Any]]:
    if len(rows) < size * batches:
        raise SystemExit(
            f"{len(rows)} rows of at most {MAX_LENGTH} tokens do not fill {batches} batches of "
            f"{size}: give --data with more rows, or fewer --batches"
        )
    return [rows[start : start + size] for start in range(0, size * batches, size)]
