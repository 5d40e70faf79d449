"""Over-optimisation of a proxy: the gold score over d = √KL(π‖start), in nats (Gao et al., 2022).

Best of n:               R(d) = d (α − β d),      highest at d* = α / 2β     (eq. 1)
Reinforcement learning:  R(d) = d (α − β log d),  highest at d* = exp(α/β − 1)

R is the gain over the start, so R(0) = 0. Both forms are linear in α and β: least squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backflip.functional.statistics import Interval

__all__ = ["Form", "GoldCurve", "binned", "coefficients", "fit_course", "fit_units", "gain", "peak"]

Form: TypeAlias = Literal["best_of_n", "rl"]
Numbers: TypeAlias = NDArray[np.float64]
LEVEL = 0.95
RESAMPLES = 400
FEWEST_POINTS = 4
"""Distances below which no curve of two coefficients is fitted."""


@dataclass(frozen=True)
class GoldCurve:
    """A fitted curve of gold over distance, each number with its interval."""

    form: Form
    alpha: Interval
    beta: Interval
    peak: Interval
    """d*, in √nats; infinite where the curve never turns."""
    farthest: float
    """The largest distance that was measured."""

    @property
    def turned(self) -> bool:
        """Whether the whole interval of the peak lies within the distances measured."""
        return self.peak.estimate > 0 and self.peak.high < self.farthest

    def at(self, d: float) -> float:
        """The fitted gain at a distance."""
        return gain(d, self.alpha.estimate, self.beta.estimate, self.form)


def gain(d: float, alpha: float, beta: float, form: Form) -> float:
    """R(d): 0 at the start."""
    if d <= 0:
        return 0.0
    return d * (alpha - beta * (d if form == "best_of_n" else math.log(d)))


def peak(alpha: float, beta: float, form: Form) -> float:
    """d* in √nats: infinite where the curve never turns, 0 where it only falls."""
    if form == "best_of_n":
        if alpha <= 0:
            return 0.0
        return alpha / (2 * beta) if beta > 0 else math.inf
    if beta <= 0:
        return math.inf if alpha > 0 or beta < 0 else 0.0
    return math.exp(min(alpha / beta - 1, 700.0))


def coefficients(d: Numbers, gains: Numbers, form: Form) -> tuple[float, float]:
    """(α, β) by least squares; a distance of 0 says nothing."""
    d, gains = d[d > 0], gains[d > 0]
    bent = d * d if form == "best_of_n" else d * np.log(d)
    found = np.linalg.lstsq(np.stack([d, -bent], 1), gains, rcond=None)[0]
    return float(found[0]), float(found[1])


def binned(kl: Sequence[float], gold: Sequence[float], size: int) -> tuple[Numbers, Numbers]:
    """Means over ``size`` steps of training in a row: (√KL, gold); what is left over is dropped.

    A mean KL below 0, as an estimate by few answers may be, is a distance of 0.
    """
    count = len(kl) // size
    means = [np.asarray(x[: count * size], float).reshape(count, size).mean(1) for x in (kl, gold)]
    return np.sqrt(np.clip(means[0], 0.0, None)), means[1]


def fit_units(d: Sequence[float], gains: Numbers, form: Form, *, seed: int = 0) -> GoldCurve | None:
    """A curve through the mean gains of units, such as prompts, that are drawn anew.

    ``gains``: [units, points], each unit measured at every distance. None for too few points.
    """
    at, count = np.asarray(d, float), len(gains)
    if int((at > 0).sum()) < FEWEST_POINTS or count < 2:
        return None
    draw = np.random.default_rng(seed)
    rows = [draw.integers(count, size=count) for _ in range(RESAMPLES)]
    fits = [coefficients(at, gains[row].mean(0), form) for row in rows]
    return _curve(coefficients(at, gains.mean(0), form), fits, float(at.max()), form, count)


def fit_course(
    d: Numbers, gains: Numbers, form: Form = "rl", *, block: int = 3, seed: int = 0
) -> GoldCurve | None:
    """A curve through the points of one run, in the order of training.

    Intervals by a bootstrap of moving blocks of residuals, since neighbours err alike (Künsch,
    1989). They hold for the form: where the points do not follow it, nothing here says so.
    """
    if int((d > 0).sum()) < max(FEWEST_POINTS, 2 * block):
        return None
    d, gains = d[d > 0], gains[d > 0]
    alpha, beta = coefficients(d, gains, form)
    fitted = np.array([gain(float(x), alpha, beta, form) for x in d])
    rest, draw, fits = gains - fitted, np.random.default_rng(seed), list[tuple[float, float]]()
    for _ in range(RESAMPLES):
        starts = draw.integers(len(d) - block + 1, size=-(-len(d) // block))
        drawn = np.concatenate([rest[start : start + block] for start in starts])[: len(d)]
        fits.append(coefficients(d, fitted + drawn, form))
    return _curve((alpha, beta), fits, float(d.max()), form, len(d))


def _curve(
    best: tuple[float, float],
    fits: Sequence[tuple[float, float]],
    farthest: float,
    form: Form,
    units: int,
) -> GoldCurve:
    rows = [*zip(*fits, strict=True), tuple(peak(alpha, beta, form) for alpha, beta in fits)]
    values = (*best, peak(*best, form))
    alpha, beta, at = (_interval(v, row, units) for v, row in zip(values, rows, strict=True))
    return GoldCurve(form, alpha, beta, at, farthest)


def _interval(value: float, drawn: Sequence[float], units: int) -> Interval:
    """Percentiles of the redrawn numbers, some of which may be infinite."""
    ordered = sorted(drawn)
    reach = (1 - LEVEL) / 2 * (len(ordered) - 1)
    low, high = ordered[math.floor(reach)], ordered[math.ceil(len(ordered) - 1 - reach)]
    return Interval(value, low, high, LEVEL, units)
