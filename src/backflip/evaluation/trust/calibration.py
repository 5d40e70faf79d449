"""Temperature scaling that is measured on other prompts than those it was fitted on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit  # pyright: ignore[reportMissingTypeStubs]

from backflip.evaluation.trust.pairs import JudgedPairs, Refusal
from backflip.functional import statistics
from backflip.functional.statistics import Interval, Numbers, Reliability, finite

__all__ = ["Rescaled", "cross_fitted", "ece_of_a_calibrated_model"]

DRAWS = 200
"""Label sets drawn to learn what a calibrated model's error would be."""


@dataclass(frozen=True)
class Rescaled:
    """Calibration after each half of the prompts was divided by the other half's temperature."""

    temperatures: tuple[float, float]
    log_loss: Interval
    """Nats per pair."""
    gain: Interval
    """Log-loss before less that after, on the same pairs: above 0 scaling helps."""
    brier: Interval
    ece: float
    slope: Interval
    reliability: tuple[tuple[float, float, int], ...]
    """(stated probability, share that was right, pairs), bin by bin."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite."""
        return {
            "temperatures": list(self.temperatures),
            **self.log_loss.named("log_loss"),
            **self.gain.named("gain"),
            **self.brier.named("brier"),
            "ece": finite(self.ece),
            **self.slope.named("calibration_slope"),
        }


def cross_fitted(pairs: JudgedPairs, *, seed: int = 0) -> Rescaled | Refusal:
    """Scores of each half of the prompts over the temperature that fits the other half best.

    Guo et al. (2017) fit the temperature on a split that nothing else is measured on; with both
    halves in turn, every pair is measured once. ``seed``: of the halves.
    """
    prompts = np.unique(pairs.prompt)
    if len(prompts) < 2:
        return Refusal("a single prompt has no other half to fit a temperature on")
    order = np.random.default_rng(seed).permutation(len(prompts))
    second = np.isin(pairs.prompt, prompts[order[::2]])
    scaled, temperatures = pairs.delta.copy(), list[float]()
    for mine in (second, ~second):
        slope = statistics.calibration_slope(pairs.delta[~mine], pairs.soft[~mine])
        if not (math.isfinite(slope) and slope > 0):
            return Refusal(_why(slope))
        scaled[mine] *= slope
        temperatures.append(1 / slope)
    before, after = (statistics.log_loss(d, pairs.soft) for d in (pairs.delta, scaled))
    least = (0.0, math.inf)
    return Rescaled(
        temperatures=(temperatures[0], temperatures[1]),
        log_loss=statistics.mean_interval(after, pairs.prompt, within=least),
        gain=statistics.paired_difference(before, after, pairs.prompt),
        brier=statistics.mean_interval(
            statistics.brier(scaled, pairs.soft), pairs.prompt, within=(0.0, 1.0)
        ),
        ece=statistics.calibration_error(scaled, pairs.soft),
        slope=statistics.slope_interval(scaled, pairs.soft, pairs.prompt),
        reliability=_points(statistics.reliability_curve(scaled, pairs.soft)),
    )


def _points(curve: Reliability) -> tuple[tuple[float, float, int], ...]:
    cells = zip(curve.confidence, curve.accuracy, curve.rows, strict=True)
    return tuple((float(claimed), float(right), int(rows)) for claimed, right, rows in cells)


def _why(slope: float) -> str:
    if math.isnan(slope):
        return "half of the prompts has no two scores that differ"
    if slope == math.inf:
        return "half of the prompts has no pair that is ordered wrong, so no temperature fits best"
    return "on half of the prompts the scores order no better than backwards: no temperature fits"


def ece_of_a_calibrated_model(delta: Numbers, *, seed: int = 0) -> float:
    """Mean calibration error of a model with these claims whose claims are true.

    It is not 0: with few pairs to a bin, shares differ from claims by chance.
    """
    if not len(delta):
        return math.nan
    rng, claimed = np.random.default_rng(seed), expit(np.abs(delta))
    drawn = (np.where(rng.random(len(delta)) < claimed, 1.0, -1.0) for _ in range(DRAWS))
    errors = [statistics.calibration_error(np.abs(delta) * signs) for signs in drawn]
    return float(np.mean(errors))
