"""Best of n at inference: the answer that a judge likes most, and what n buys.

The curve of reward over n is read against KL, so that it can be laid beside a policy that was
trained (Gao et al., 2023). A second head, which does not choose, shows where the first is fooled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.data.ragged import Ragged
from backflip.errors import UserError
from backflip.functional.best_of_n import best_of_n_mean
from backflip.functional.statistics import Interval, kl_best_of_n, mean_interval
from backflip.generate.sampler import Sampler
from backflip.reward.protocol import RewardSource
from backflip.sampling.draw import judge_all
from backflip.sampling.samples import Sampled, Scoring

__all__ = ["Picked", "Point", "best_of_n", "best_of_n_curve", "pick_best"]


@dataclass(frozen=True)
class Picked:
    """The best answer to each prompt."""

    answers: Sampled
    """One row per prompt that has an answer with a score; ``group`` is the prompt's number."""
    unjudged: tuple[int, ...]
    """Prompts none of whose answers has a score."""
    scoring: Scoring
    """All that was drawn and said, for the curve."""


@dataclass(frozen=True)
class Point:
    """The gain of choosing among n answers, on average over prompts."""

    n: int
    kl: float
    """KL(best of n‖policy), nats an answer: log n − (n − 1)/n; where scores tie it is less."""
    reward: Interval
    """Expected score of the chosen answer, with its interval over prompts."""
    parts: Mapping[str, Interval]
    """Further scores of the chosen answer, such as ``heldout``."""
    prompts: int
    """Prompts with at least n scores; the others cannot tell."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite."""
        named = {"reward": self.reward} | {f"reward_{n}": part for n, part in self.parts.items()}
        numbers: dict[str, Any] = {"n": self.n, "kl": self.kl, "prompts": self.prompts}
        for name, said in named.items():
            numbers |= said.named(name)
        return numbers


def best_of_n(sampler: Sampler, source: RewardSource, prompts: Ragged[Any], *, seed: int) -> Picked:
    """Draw the sampler's ``group_size`` answers to each prompt and keep the best of each."""
    scoring = judge_all(source, sampler(prompts, seed=seed))
    rollouts, scores = scoring.sampled.rollouts, scoring.sampled.scores
    rows = pick_best(rollouts.group, scores)
    answered = set(rollouts.group[rows].tolist())
    unjudged = [n for n in sorted(set(rollouts.group.tolist())) if n not in answered]
    return Picked(scoring.sampled[rows], tuple(unjudged), scoring)


def pick_best(group: Int[Tensor, " B"], scores: Float[Tensor, " B"]) -> Int[Tensor, " P"]:
    """The row of each group's highest score, the first of equals; groups in ascending order.

    A score that is not a number is never the highest; a group with no other has no row.
    """
    best: dict[int, int] = {}
    for row, number in enumerate(group.tolist()):
        if not bool(scores[row].isnan()) and (
            number not in best or bool(scores[row] > scores[best[number]])
        ):
            best[number] = row
    return torch.tensor([best[number] for number in sorted(best)], dtype=torch.long)


def best_of_n_curve(scoring: Scoring, *, sizes: Sequence[int] | None = None) -> list[Point]:
    """Expected reward of best-of-n for every n of ``sizes``, from all answers that were drawn.

    Every answer serves every n: unbiased, and far less noisy than drawing anew for each. Without
    ``sizes``, 1, 2, 4 … and the number of answers.

    Raises UserError where no prompt has as many scores as the largest size.
    """
    by_prompt = _scored_rows(scoring.sampled)
    most = max((len(rows) for rows in by_prompt), default=0)
    if not most:
        raise UserError("best of n: no answer has a score. See what the scorer says.")
    sizes = _doubling(most) if sizes is None else sizes
    if not all(1 <= n <= most for n in sizes):
        raise UserError(
            f"best of n: sizes {list(sizes)} must lie between 1 and {most}, the answers to a "
            "prompt that have a score. Draw more answers."
        )
    return [_point(scoring, by_prompt, n) for n in sizes]


def _point(scoring: Scoring, by_prompt: Sequence[Tensor], n: int) -> Point:
    rows = [row for row in by_prompt if len(row) >= n]
    scores = scoring.sampled.scores
    return Point(
        n,
        kl_best_of_n(n),
        _expected(scores, scores, rows, n),
        {name: _expected(scores, part, rows, n) for name, part in scoring.parts.items()},
        len(rows),
    )


def _expected(scores: Tensor, values: Tensor, by_prompt: Sequence[Tensor], n: int) -> Interval:
    """Mean over prompts; a prompt with an unknown value is left out."""
    told = [float(best_of_n_mean(scores[row], values[row], n=n)) for row in by_prompt]
    known = [value for value in told if not math.isnan(value)]
    return mean_interval(known)


def _scored_rows(sampled: Sampled) -> list[Tensor]:
    group: Rollouts = sampled.rollouts
    known = sampled.scores.isfinite()
    numbers = sorted(set(group.group[known].tolist()))
    return [(known & (group.group == number)).nonzero()[:, 0] for number in numbers]


def _doubling(most: int) -> list[int]:
    return sorted({2**i for i in range(most.bit_length())} | {most})
