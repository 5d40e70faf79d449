"""Comparisons weighed until length, lists or some words no longer tell which answer is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from backflip.data.batches import ComparisonBatch
from backflip.data.collate import Tokenized
from backflip.data.records import Comparison
from backflip.data.traits import trait_differences
from backflip.errors import UserError
from backflip.functional.balance import balancing_weights, effective_size
from backflip.text import counted

__all__ = ["debiased", "weights_said"]


def debiased(
    made: Tokenized[ComparisonBatch], records: Sequence[Comparison], traits: Sequence[str]
) -> Tokenized[ComparisonBatch]:
    """The same rows with weights under which no trait points to the preferred answer.

    Raises UserError where one of the traits points the same way in all rows.
    """
    rows = [records[number] for number in made.kept]
    differences = trait_differences(rows, traits)
    weights = balancing_weights(differences)
    if weights is None:
        raise UserError(
            f"debias={list(traits)}: of {counted(len(rows), 'row')} no weights make them even, "
            "because they, or a mixture of them, never point to the other answer. Name fewer, or "
            "give rows in which people preferred the answer without."
        )
    data = made.data
    weighed = data.weight * torch.tensor(weights, dtype=data.weight.dtype)
    return replace(made, data=replace(data, weight=weighed))


def weights_said(batch: ComparisonBatch) -> str:
    """A sentence on how unequal the weights are."""
    weight = batch.weight.double().numpy()
    worth = effective_size(weight)
    return (
        f"  debias: rows weigh {weight.min():.2g} to {weight.max():.2g}, and so tell as much as "
        f"{worth:,.0f} of {len(weight):,} would that weigh the same"
    )
