"""Several tries at a question: pass@k and maj@k, told without bias from N ≥ k samples.

pass@k is the chance that one of k answers is right; maj@k that the most frequent of k is. Both are
expectations over the draws of k of the N, none twice, computed exactly instead of drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["majority", "majority_at_k", "pass_at_k", "settled"]


def pass_at_k(
    n: Int[Tensor, "*questions"] | int, c: Int[Tensor, "*questions"] | int, k: int
) -> Float[Tensor, "*questions"]:
    """1 − C(n − c, k)/C(n, k) for c right answers of n, in float64 (Chen et al., 2021, eq. 1).

    As a product, ∏ (1 − k/i) over n − c < i ≤ n, which no binomial can overflow.

    Raises ValueError unless 0 ≤ c ≤ n and 1 ≤ k ≤ n everywhere.
    """
    drawn = torch.as_tensor(n) + torch.zeros_like(torch.as_tensor(c))
    right = torch.as_tensor(c) + torch.zeros_like(drawn)
    if bool(((right < 0) | (right > drawn)).any()):
        raise ValueError("pass@k: there cannot be more right answers than answers, nor less than 0")
    fewest = int(drawn.min()) if drawn.numel() else k
    if not 1 <= k <= fewest:
        raise ValueError(f"pass@{k} cannot be told from {fewest} answers: draw {k} or more")
    most = int(drawn.max()) if drawn.numel() else 0
    i = torch.arange(1, most + 1, dtype=torch.float64, device=drawn.device)
    factor = torch.where(
        (i > (drawn - right)[..., None]) & (i <= drawn[..., None]), (1 - k / i).clamp(min=0), 1.0
    )
    return 1 - factor.prod(-1)


def majority(
    answers: Sequence[Hashable], weights: Sequence[float] | None = None
) -> dict[Hashable, float]:
    """P(each answer is chosen) by a vote in which None abstains: 1 for the winner, ties share it.

    ``weights`` are the weights of the votes, such as a reward model's scores above 0 (weighted
    vote: Li et al., 2023); without them all votes are equal (self-consistency: Wang et al., 2023).
    Empty where nobody voted.
    """
    total: dict[Hashable, float] = {}
    for answer, weight in zip(answers, weights or [1.0] * len(answers), strict=True):
        if answer is not None:
            total[answer] = total.get(answer, 0.0) + weight
    most = max(total.values(), default=0.0)
    winners = [answer for answer, votes in total.items() if math.isclose(votes, most)]
    return {answer: 1 / len(winners) for answer in winners}


def majority_at_k(answers: Sequence[Hashable], right: Sequence[float | int], k: int) -> float:
    """Expected value of the majority's answer among k of the N ``answers``; None abstains.

    ``right``: the value of each answer, one number for equal answers: 1 where it is right. Ties are
    broken by lot. Exact: over the draws, the votes of the winner and the answers that tie with it.

    Raises ValueError unless 1 ≤ k ≤ N, or where equal answers have different values.
    """
    if not 1 <= k <= len(answers):
        raise ValueError(f"maj@{k} cannot be told from {len(answers)} answers: draw {k} or more")
    value: dict[Hashable, float] = {}
    for answer, worth in zip(answers, right, strict=True):
        if answer is not None and value.setdefault(answer, float(worth)) != float(worth):
            raise ValueError(f"maj@k: the answer {answer!r} is both right and wrong")
    votes = Counter(answer for answer in answers if answer is not None)
    blank = len(answers) - votes.total()
    won = (
        worth * _chance(votes[answer], [n for a, n in votes.items() if a != answer], blank, k)
        for answer, worth in value.items()
        if worth
    )
    return sum(won, 0.0)


def settled(right: Sequence[float | int], finals: Sequence[Hashable]) -> tuple[float, ...]:
    """Values of answers where equal final answers were judged both ways: by what most were."""
    worth: dict[Hashable, list[float]] = {}
    for final, value in zip(finals, right, strict=True):
        worth.setdefault(final, []).append(value)
    return tuple(
        float(value) if final is None else float(2 * sum(worth[final]) > len(worth[final]))
        for final, value in zip(finals, right, strict=True)
    )


def _chance(own: int, others: Sequence[int], blank: int, k: int) -> float:
    """P(an answer with ``own`` votes wins a draw of k), a tie of t + 1 counting 1/(t + 1).

    For each number m of its votes in the draw the others are a polynomial: ``ways[s, t]`` counts
    the choices of s further answers, none with more than m votes and t of them with exactly m.
    """
    total = own + sum(others) + blank
    chance = 0.0
    for m in range(1, min(own, k) + 1):
        rest = k - m
        ways = np.zeros((rest + 1, rest // m + 1))
        ways[: min(blank, rest) + 1, 0] = [math.comb(blank, i) for i in range(min(blank, rest) + 1)]
        for votes in others:
            ways = _joined(ways, votes, m)
        shares = 1 / np.arange(1, ways.shape[1] + 1)
        chance += math.comb(own, m) / math.comb(total, k) * float(ways[rest] @ shares)
    return chance


def _joined(ways: NDArray[np.float64], votes: int, m: int) -> NDArray[np.float64]:
    """The choices with those of one more answer, at most m of its votes."""
    joined = np.zeros_like(ways)
    size, ties = ways.shape
    for i in range(min(votes, m, size - 1) + 1):
        tied = int(i == m)
        joined[i:, tied:] += math.comb(votes, i) * ways[: size - i, : ties - tied]
    return joined
