"""The prefix forest: sequences that start alike are computed once where they are alike.

A micro-batch of sequences becomes a forest of runs of tokens, packed end to end into one row in
depth-first order. A token may look at the tokens of its own node before it and at all tokens of
the node's ancestors. Because of the order, "k is an ancestor of q" is two comparisons:
``k <= q < subtree_end[k]``. Nothing is padded and nothing that is shared is computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

SHORTEST_SHARED_RUN = 4
"""Runs shorter than this are computed again: a node of its own would cost more than its tokens."""


@dataclass(frozen=True)
class Node:
    """A run of tokens that all sequences below it share."""

    start: int
    """Index of the first token in the packed row."""
    end: int
    """One past the last."""
    path: tuple[int, ...]
    """Numbers of the nodes above it, root first."""


@dataclass(frozen=True)
class Forest:
    """N tokens in one row, and where each token of each of the S sequences lies among them."""

    tokens: Int[Tensor, " N"]
    positions: Int[Tensor, " N"]
    """Distance of each token from the start of its own sequence."""
    subtree_end: Int[Tensor, " N"]
    """One past the last packed token that may look back at this one."""
    nodes: tuple[Node, ...]
    place: Int[Tensor, "S L"]
    """Packed index of token p of sequence s; 0 behind its end."""
    masks: dict[Any, Any] = field(default_factory=dict[Any, Any], compare=False)
    """Block masks on this device by how far tokens see, made when first asked for."""

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> Forest:
        return Forest(
            self.tokens.to(device),
            self.positions.to(device),
            self.subtree_end.to(device),
            self.nodes,
            self.place.to(device),
        )


def plant(sequences: Sequence[Sequence[int]]) -> Forest:
    """Merge the common starts of ``sequences`` (non-empty lists of token ids) into a forest."""
    return _Planter(sequences).forest()


def forest_size(sequences: Sequence[Sequence[int]]) -> int:
    """Number of tokens that a forest of these sequences would hold."""
    planter = _Planter(sequences)
    planter.grow()
    return len(planter.tokens)


class _Planter:
    """Grows the trie over lexicographically sorted sequences, parents before children."""

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        self.sequences = [list(s) for s in sequences]
        self.order = sorted(range(len(sequences)), key=self.sequences.__getitem__)
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.subtree_end: list[int] = []
        self.nodes: list[Node] = []
        self.runs: list[list[tuple[int, int, int]]] = [[] for _ in sequences]

    def forest(self) -> Forest:
        self.grow()
        longest = max((len(s) for s in self.sequences), default=0)
        place = torch.zeros(len(self.sequences), longest, dtype=torch.long)
        for row, runs in enumerate(self.runs):
            for start, end, depth in runs:
                place[row, depth : depth + end - start] = torch.arange(start, end)
        return Forest(
            torch.tensor(self.tokens, dtype=torch.long),
            torch.tensor(self.positions, dtype=torch.long),
            torch.tensor(self.subtree_end, dtype=torch.long),
            tuple(self.nodes),
            place,
        )

    def grow(self) -> None:
        self._branch(0, len(self.order), 0, 0, ())

    def _branch(self, low: int, high: int, depth: int, shared: int, path: tuple[int, ...]) -> None:
        """Grow the sequences ``order[low:high]``, of which ``depth`` tokens are already in nodes.

        They are known to agree on their first ``shared`` tokens.
        """
        if low == high:
            return
        first, last = self.sequences[self.order[low]], self.sequences[self.order[high - 1]]
        agree = _common(first, last, shared)
        if low + 1 < high and agree - depth < SHORTEST_SHARED_RUN:
            for a, b in self._children(low, high, agree):
                if b - a == high - low:  # all of them end here: the same sequence several times
                    self._node(low, high, depth, agree, path)
                else:
                    self._branch(a, b, depth, agree, path)
            return
        start = self._node(low, high, depth, agree, path)
        if start is None:
            return
        here = (*path, len(self.nodes) - 1)
        while low < high and len(self.sequences[self.order[low]]) == agree:
            low += 1
        for a, b in self._children(low, high, agree):
            self._branch(a, b, agree, agree, here)
        self.subtree_end[start : start + agree - depth] = [len(self.tokens)] * (agree - depth)

    def _node(self, low: int, high: int, depth: int, end: int, path: tuple[int, ...]) -> int | None:
        """Pack tokens ``depth:end`` of the sequences; None where that is nothing."""
        if end == depth:
            return None
        start, size = len(self.tokens), end - depth
        self.tokens += self.sequences[self.order[low]][depth:end]
        self.positions += range(depth, end)
        self.subtree_end += [start + size] * size
        self.nodes.append(Node(start, start + size, path))
        # Those above are given by the path; record the whole route for every sequence below.
        for index in range(low, high):
            self.runs[self.order[index]].append((start, start + size, depth))
        return start

    def _children(self, low: int, high: int, depth: int) -> list[tuple[int, int]]:
        """Ranges of sorted sequences that go on with the same token at ``depth``."""
        bounds, before = [low], self._token(low, depth) if low < high else None
        for index in range(low + 1, high):
            token = self._token(index, depth)
            if token != before:
                bounds.append(index)
                before = token
        return list(zip(bounds, [*bounds[1:], high], strict=True)) if low < high else []

    def _token(self, index: int, depth: int) -> int:
        sequence = self.sequences[self.order[index]]
        return sequence[depth] if depth < len(sequence) else -1


def _common(a: list[int], b: list[int], known: int) -> int:
    """Length of the common start of two lists that agree on ``known`` tokens."""
    limit = min(len(a), len(b))
    while known < limit and a[known] == b[known]:
        known += 1
    return known
