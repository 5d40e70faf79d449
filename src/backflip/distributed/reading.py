"""Readings of batches of any size by a model, in micro-batches and without a graph.

Whoever reads more rows than a device holds reads them here: references, values, scores, held-out
losses. Several processes share the pieces out, and the results come back whole to each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.distributed.world import here
from backflip.progress import task

__all__ = ["Elsewhere", "evaluate_all", "read_in_parts", "resident"]


@runtime_checkable
class Elsewhere(Protocol):
    """A model that lives in another process, and cuts what it reads by itself."""

    def evaluated(
        self, record: Any, want: Collection[str], token_budget: int
    ) -> dict[str, Float[Tensor, "B T"]]:
        """As ``evaluate_all``."""
        ...

    def exact_kl(self, policy: Any, record: Any, token_budget: int) -> Float[Tensor, " B"]:
        """KL(policy‖this model) of each answer, as ``models.divergence.exact_kl``."""
        ...


@torch.no_grad()
def read_in_parts(
    model: Any,
    record: Any,
    token_budget: int,
    read: Callable[[Any], Any],
    *,
    told: str = "",
    unit: str = "rows",
) -> list[tuple[Tensor, Any]]:
    """(rows, result on the CPU) of ``read`` for each piece of ``record`` that fits the budget.

    Args:
        model: whose ``plan`` cuts the record into pieces of at most ``token_budget`` tokens.
        record: a ``TensorRecord`` of any size.
        token_budget: forest tokens in one piece.
        read: a piece of the record → a tensor, a mapping of tensors, or anything else.
        told: name of the work on the progress bar; empty shows none.
        unit: of its count.

    """
    bar = task(told or "reading", len(record), unit) if told else nullcontext()
    with resident(model), bar as reading:

        def one(rows: Tensor) -> tuple[Tensor, Any]:
            found = _on_cpu(read(record[rows]))
            if reading is not None:
                reading.advance(len(rows))
            return rows, found

        return here().spread(model.plan(record, token_budget), one)


def evaluate_all(
    model: Any, record: Any, want: Collection[str], token_budget: int
) -> dict[str, Float[Tensor, "B T"]]:
    """``model.evaluate`` of a ``TensorRecord`` of any size; on the CPU."""
    if isinstance(model, Elsewhere):
        return model.evaluated(record, want, token_budget)
    steps = record.sequences()[0]
    out = {name: torch.zeros(len(steps), steps.width) for name in want}
    for rows, values in read_in_parts(
        model,
        record,
        token_budget,
        lambda piece: model.evaluate(piece.sequences()[0], want),
        told="reading answers",
        unit="answers",
    ):
        for name, value in values.items():
            out[name][rows] = value
    return out


def resident(model: Any) -> AbstractContextManager[None]:
    """Inside, the weights of a model that lies elsewhere are on the device that it reads on."""
    return getattr(model, "resident", nullcontext)()


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    return {k: _on_cpu(v) for k, v in value.items()} if isinstance(value, dict) else value
