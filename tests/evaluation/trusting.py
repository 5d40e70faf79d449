"""Pairs with planted scores and columns, for tests of the report on a reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from backflip.data.batches import ComparisonBatch
from backflip.data.records import Comparison, Provenance, messages
from backflip.evaluation.trust.pairs import JudgedPairs, judged_pairs
from backflip.evaluation.trust.report import TrustReport, trust_report


def comparison(
    number: int, answers: tuple[str, str] = ("yes", "no"), *, prompt: str = "", **info: Any
) -> Comparison:
    """A record whose first answer is preferred."""
    return Comparison(
        messages(("user", prompt or f"Question {number}?")),
        (messages(("assistant", answers[0])), messages(("assistant", answers[1]))),
        (0, 1),
        where=Provenance("rows.jsonl", number + 1),
        info=info,
    )


def batch_of(records: Sequence[Comparison]) -> ComparisonBatch:
    """Records as tokens, one for each letter."""
    asked = [[3, *map(ord, record.prompt[0].content)] for record in records]
    said = [[[*map(ord, a[0].content)] for a in record.answers] for record in records]
    batch = ComparisonBatch.of(asked, said, [record.rank for record in records])
    object.__setattr__(batch, "soft", torch.tensor([record.soft for record in records]))
    return batch


def scores_of(deltas: Sequence[float] | np.ndarray) -> torch.Tensor:
    """[2 P, M] scores with these differences; [P] or [P, M]."""
    by = torch.as_tensor(np.asarray(deltas, dtype=np.float32))
    by = by[:, None] if by.ndim == 1 else by
    return torch.stack([by / 2, -by / 2], 1).flatten(0, 1)


def judged(deltas: Sequence[float] | np.ndarray, records: Sequence[Comparison]) -> JudgedPairs:
    return judged_pairs(scores_of(deltas), batch_of(records), records)


def reported(
    deltas: Sequence[float] | np.ndarray, records: Sequence[Comparison], **more: Any
) -> TrustReport:
    """The report, its columns found by their usual names."""
    columns = {name: name for name in ("rater", "group", "domain") if name in records[0].info}
    return trust_report(
        "rm", scores_of(deltas), batch_of(records), records, columns, sizes={}, **more
    )


def drawn(rng: np.random.Generator, claims: np.ndarray) -> np.ndarray:
    """Differences of these sizes, each right as often as its σ says."""
    right = rng.random(len(claims)) < 1 / (1 + np.exp(-claims))
    return np.where(right, claims, -claims)
