"""Pairs of answers to be judged: never a pair with itself, never one twice.

Answers are numbered 0 … A−1. ``prompt`` [A], 0 or more, says which prompt each belongs to, and only
answers to one prompt are paired. ``same`` [A] says which answers are the same text: these never
meet, and a pair of texts comes once however many copies there are.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from backflip.crowd.judgements import Floats, Ints
from backflip.feedback.queries import once

MOST = 5_000_000
"""Pairs that may be held in memory: 80 MB."""
ROUNDS = 100
"""Of drawing, each twice what is missing: enough unless nearly all texts are the same."""


def every_pair(prompt: Ints, same: Ints | None = None) -> Ints:
    """[P, 2] All pairs that there are, by prompt. Raises ValueError for more than ``MOST``."""
    order = np.argsort(prompt, kind="stable")
    starts = np.flatnonzero(np.diff(prompt[order], prepend=-1))
    sizes = np.diff(starts, append=len(prompt))
    if (total := int((sizes * (sizes - 1) // 2).sum())) > MOST:
        raise ValueError(
            f"{total:,} pairs are more than fit in memory; draw some of them with draw_pairs."
        )
    found = [np.zeros((0, 2), np.int64)]
    for size in np.unique(sizes):
        i, j = np.triu_indices(int(size), 1)
        block = starts[sizes == size][:, None]
        places = np.stack([block + i, block + j], axis=-1).reshape(-1, 2)
        found.append(order[places])
    return _fresh(np.concatenate(found), same, ())


def draw_pairs(
    prompt: Ints,
    count: int,
    *,
    same: Ints | None = None,
    known: Collection[tuple[int, int]] = (),
    seed: int = 0,
) -> Ints:
    """[≤ count, 2] Different pairs by chance, all pairs of answers to one prompt equally likely.

    ``known`` pairs, by number of text (``same``), are left out. Fewer come where there are no more.
    """
    order = np.argsort(prompt, kind="stable")
    starts = np.flatnonzero(np.diff(prompt[order], prepend=-1))
    sizes = np.diff(starts, append=len(prompt))
    ends = (sizes * (sizes - 1) // 2).cumsum()
    total = int(ends[-1]) if len(ends) else 0
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(total) if total <= MOST else None
    found, used = np.zeros((0, 2), np.int64), 0
    for _ in range(ROUNDS):
        wished = 2 * (count - len(found)) + 16
        if shuffled is None:
            drawn = rng.integers(0, total, wished)
        else:
            drawn = shuffled[used : used + wished]
            used += wished
        where = np.searchsorted(ends, drawn, side="right")
        i, j = _unrank(drawn - (ends - sizes * (sizes - 1) // 2)[where])
        pairs = order[np.column_stack([starts[where] + i, starts[where] + j])]
        found = _fresh(np.concatenate([found, pairs]), same, known)
        if len(found) >= count or (shuffled is not None and used >= total):
            break
    return found[:count]


def _unrank(rank: Ints) -> tuple[Ints, Ints]:
    """The pair i < j with j(j − 1)/2 + i = rank: numbers 0, 1, 2 … are (0,1), (0,2), (1,2) …"""
    j = ((1 + np.sqrt(1 + 8 * rank.astype(np.float64))) / 2).astype(np.int64)
    j -= j * (j - 1) // 2 > rank  # the root is rounded
    j += j * (j + 1) // 2 <= rank
    return rank - j * (j - 1) // 2, j


def best_against_worst(score: Floats, prompt: Ints, same: Ints | None = None) -> Ints:
    """[≤ prompts, 2] For each prompt the answer with the highest score and the one with the lowest.

    (West-of-N: Pace et al., 2024.) Prompts whose answers are all the same text have none.
    """
    order = np.lexsort((score, prompt))
    starts = np.flatnonzero(np.diff(prompt[order], prepend=-1))
    ends = np.append(starts[1:], len(prompt)) - 1
    pairs = np.column_stack([order[ends], order[starts]])
    return _fresh(pairs, same, ())


def _fresh(pairs: Ints, same: Ints | None, known: Collection[tuple[int, int]]) -> Ints:
    number = pairs if same is None else same[pairs]
    return pairs[once(number[:, 0], number[:, 1], known)] if len(pairs) else pairs
