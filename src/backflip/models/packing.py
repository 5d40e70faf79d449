"""Who shares a micro-batch: whole prefix groups, under a budget of tokens, balanced by size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from backflip.data.ragged import TensorRecord
from backflip.distributed.world import here
from backflip.models.forest import forest_size

UNEVEN = 1.1
"""Longest share of a rank over the mean one, above which groups are cut finer."""
Size: TypeAlias = Callable[[list[list[int]]], int]
CPU_TOKENS = 1536
"""Of a micro-batch on a CPU, where its activations are to stay near the caches."""
CUDA_TOKENS_PER_GB = 100
"""On a device, which wants large pieces: a 3B model with a vocabulary of 150,000 fits."""


def token_budget_here() -> int:
    """Forest tokens of one micro-batch that suit this machine."""
    if not torch.cuda.is_available():
        return CPU_TOKENS
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return max(CPU_TOKENS, int(CUDA_TOKENS_PER_GB * gigabytes))


def plan(batch: TensorRecord, token_budget: int, *, forest: bool = True) -> list[Int[Tensor, " n"]]:
    """Row numbers of each micro-batch.

    Rows of one group (answers to one prompt) stay together, since they share its tokens; a group
    over the budget is split and its prompt computed again. A single row over the budget is a
    micro-batch of its own. Without a ``forest``, sizes are those of padded rows. Several processes
    get as many each, the largest first, where there are rows enough.
    """
    steps, row_of_sequence, group_of_row = batch.sequences()
    sequences = [steps.sequence(i) for i in range(len(steps))]
    of_row: list[list[list[int]]] = [[] for _ in range(len(group_of_row))]
    for sequence, row in zip(sequences, row_of_sequence.tolist(), strict=True):
        of_row[row].append(sequence)
    size = forest_size if forest else _padded_size
    groups: dict[int, list[int]] = {}
    for row, group in enumerate(group_of_row.tolist()):
        groups.setdefault(group, []).append(row)
    if (ranks := here().size) > 1:
        bins = _shared(list(groups.values()), of_row, token_budget, size, ranks)
    else:
        pieces = [p for rows in groups.values() for p in _cut(rows, of_row, token_budget, size)]
        bins = [rows for _, rows in _balance(pieces, token_budget)]
    return [torch.tensor(sorted(rows)) for rows in bins]


def _padded_size(sequences: list[list[int]]) -> int:
    return len(sequences) * max(len(s) for s in sequences)


def _cut(
    rows: list[int], of_row: list[list[list[int]]], budget: int, size: Size
) -> list[tuple[int, list[int]]]:
    """A group as one piece, or as several where it is over the budget."""
    total = size([s for row in rows for s in of_row[row]])
    if total <= budget or len(rows) == 1:
        return [(total, rows)]
    middle = len(rows) // 2
    return _cut(rows[:middle], of_row, budget, size) + _cut(rows[middle:], of_row, budget, size)


def _shared(
    groups: list[list[int]],
    of_row: list[list[list[int]]],
    budget: int,
    size: Size,
    ranks: int,
) -> list[list[int]]:
    """Bins for several ranks, the largest first: groups are cut where shares would be uneven."""
    total, tried = sum(size([s for row in rows for s in of_row[row]]) for rows in groups), []
    for parts in (ranks, 2 * ranks, 4 * ranks, 8 * ranks):
        most = min(budget, max(1, math.ceil(total / parts)))
        pieces = [piece for rows in groups for piece in _cut(rows, of_row, most, size)]
        bins = sorted(_balance(pieces, budget, ranks), key=lambda bin: -bin[0])
        longest = sum(load for load, _ in bins[::ranks])
        tried.append((longest, [rows for _, rows in bins]))
        if longest <= UNEVEN * total / ranks:
            break
    return min(tried, key=lambda one: one[0])[1]


def _balance(
    pieces: list[tuple[int, list[int]]], budget: int, ranks: int = 1
) -> list[tuple[int, list[int]]]:
    """Largest piece first into the emptiest bin, with as few bins as the budget allows.

    A number of bins that is a multiple of ``ranks``. Returns (size, rows) of each.
    """
    bins_needed = max(1, math.ceil(sum(size for size, _ in pieces) / budget))
    bins_needed += -bins_needed % ranks
    while True:
        loads, bins = [0] * bins_needed, [list[int]() for _ in range(bins_needed)]
        crowded = False
        for size, rows in sorted(pieces, key=lambda piece: -piece[0]):
            emptiest = loads.index(min(loads))
            crowded |= bool(bins[emptiest]) and loads[emptiest] + size > budget
            loads[emptiest] += size
            bins[emptiest] += rows
        if not crowded:
            return [(load, rows) for load, rows in zip(loads, bins, strict=True) if rows]
        bins_needed += ranks
