"""Style of an answer: length and Markdown; and a win rate with style alike, as Arena-Hard's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from backflip.functional.length_control import fit_logistic

__all__ = ["FEATURES", "StyleControlled", "features", "style", "style_controlled"]

FEATURES = ("length", "headers", "lists", "bold")
CODE = re.compile(r"```[^`]*```")
MARKDOWN = {
    "headers": re.compile(r"^#{1,6}\s", re.MULTILINE),
    "lists": re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}
"""Marks that are counted outside of blocks of code."""
WEAK = 1e-3
"""Precision of a prior on coefficients of style, which keeps them finite."""
DRAWS = 200


def style(text: str) -> list[int]:
    """Characters, headers, list items and bold spans of an answer."""
    bare = CODE.sub("", text)
    return [len(text), *(len(marks.findall(bare)) for marks in MARKDOWN.values())]


def features(mine: Sequence[int], other: Sequence[int]) -> list[float]:
    """Differences of style, mine less the other's, each between −1 and 1.

    Of length (a − b)/(a + b); of the others, as marks a character, (a − b)/(a + b + 1): so Arena-
    Hard has them, with tokens in place of characters.
    """
    found = [_share(mine[0] - other[0], mine[0] + other[0])]
    for here, there in zip(mine[1:], other[1:], strict=True):
        a, b = here / max(mine[0], 1), there / max(other[0], 1)
        found.append((a - b) / (a + b + 1))
    return found


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@dataclass(frozen=True)
class StyleControlled:
    """Win rates of M models against one baseline, with style alike."""

    rates: NDArray[np.float64]
    """[M] Shares."""
    drawn: NDArray[np.float64]
    """[B, M] Those of bootstrap samples of questions."""
    coefficients: NDArray[np.float64]
    """[F] Log odds that a standard deviation of each feature is worth."""


def style_controlled(
    model: Any,
    question: Any,
    score: Any,
    weight: Any,
    difference: Any,
    *,
    models: int,
    seed: int = 0,
) -> StyleControlled:
    """A ladder of models against one baseline, with style beside it in the regression.

    P(model m wins) = σ(θ_m + w · x / std x), over N battles; with style alike x is 0, and the rate
    σ(θ_m). Arena-Hard centres x as well, so that its rate is at the mean difference of the board.

    Args:
        model: [N] numbers of models.
        question: [N] numbers of questions, which are what the bootstrap draws.
        score: [N] 1 a win, 0 a loss, ½ a tie, or means of several.
        weight: [N] how much each counts.
        difference: [N, F] of ``features``.
        models: M.
        seed: of the bootstrap.

    """
    spread = difference.std(0)
    x = difference / np.where(spread > 0, spread, 1.0)
    design = np.concatenate([np.eye(models)[model], x], axis=1)
    stiff = np.full(design.shape[1], WEAK)
    beta = fit_logistic(design, score, weight=weight, precision=stiff)
    rng, count = np.random.default_rng(seed), int(question.max(initial=0)) + 1
    drawn: list[Any] = []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(count, size=count), minlength=count)[question]
        drawn.append(fit_logistic(design, score, weight=weight * times, precision=stiff)[:models])
    return StyleControlled(expit(beta[:models]), expit(np.array(drawn)), beta[models:])
