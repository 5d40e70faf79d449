"""Rows of a stage: all of them as tokens, or tokenised as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from backflip.data.collate import Tokenized
from backflip.data.marks import marked
from backflip.data.ragged import TensorRecord
from backflip.data.records import Record
from backflip.data.splits import opening_key
from backflip.data.streaming import StreamedBatches, StreamedRecords
from backflip.stages.context import StageContext

__all__ = ["StageRows"]

R = TypeVar("R", bound=Record)
Data = TypeVar("Data", bound=TensorRecord)


@dataclass(frozen=True)
class StageRows(Generic[R, Data]):
    """The rows of a stage."""

    train: Data | StreamedBatches[R]
    """To learn from."""
    sample: Data
    """Those to learn from as far as they are known before the first step: of a streamed source, its
    first ones."""
    held: list[R]
    """Records that are kept apart."""

    @staticmethod
    def of(context: StageContext, kind: type[R]) -> StageRows[R, Any]:
        """Raises UserError where there is nothing to learn from."""

        def tokenize(records: Sequence[R]) -> Tokenized[Any]:
            return context.recipe.tokenize(records, context.template)

        records, held = context.records(kind)
        sample = context.told(tokenize(records))
        recipe, data = context.recipe, context.recipe.data
        if not data.streaming:
            return StageRows(sample, sample, held)
        streamed = StreamedRecords(
            data.source,
            kind,
            format=data.format,
            columns=data.columns.given,
            limit=data.limit,
            apart=set(map(opening_key, held)),
        )
        batches = StreamedBatches(
            streamed,
            tokenize,
            size=recipe.rows_per_step,
            buffer=data.shuffle_buffer,
            seed=recipe.seed,
            epochs=recipe.passes,
            marked=lambda records: len(marked(records, context.template)),
        )
        return StageRows(batches, sample, held)
