"""How sure we are: intervals, calibration of a reward model, correlation, diversity.

Lists, arrays or tensors in, float64 out. ``delta`` is the score of the answer that people
preferred minus the score of the other, so σ(Δ) is the model's probability for what people said.
``target`` is P(people prefer that answer): 1 unless the labels are soft.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtrit  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

Numbers = NDArray[np.float64]
Data = Sequence[float | int] | NDArray[Any] | Tensor
Labels = Sequence[Hashable] | NDArray[Any] | Tensor

FEWEST = 30
"""Independent units (prompts, as a rule) below which a number gets its interval and no verdict."""
ROUNDING = 1e-12
"""A spread below this share of the numbers is nothing but rounding."""


@dataclass(frozen=True)
class Interval:
    """A number and the range that it may well lie in."""

    estimate: float
    low: float
    high: float
    level: float
    """How often such ranges hold the true number, 0.95 for example."""
    units: int | None = None
    """Independent units it stands on, such as prompts; None where nobody counted."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign is beyond doubt, at this level."""
        return self.low > 0 or self.high < 0

    @property
    def enough(self) -> bool:
        """Whether it stands on enough units for a verdict."""
        return self.units is not None and self.units >= FEWEST

    def as_json(self) -> dict[str, float] | None:
        """estimate, low and high; None where one of them is not finite: nothing is known."""
        ends = {"estimate": self.estimate, "low": self.low, "high": self.high}
        known = all(math.isfinite(value) for value in ends.values())
        return {name: float(value) for name, value in ends.items()} if known else None

    def named(self, name: str) -> dict[str, float | int | None]:
        """The three as ``name``, ``name_low`` and ``name_high``, None where one is not finite.

        Beside them ``name_units``, where the units were counted.
        """
        ends = {"": self.estimate, "_low": self.low, "_high": self.high}
        counted = {} if self.units is None else {f"{name}_units": self.units}
        return {name + end: finite(value) for end, value in ends.items()} | counted


def finite(value: float | np.floating[Any]) -> float | None:
    """The number, or None where JSON has no word for it."""
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Reliability:
    """Claimed probabilities against true shares, bin by bin, from unsure to sure."""

    confidence: Numbers
    """Mean claimed probability of the bin, 0.5 to 1."""
    accuracy: Numbers
    """Share of the bin in which the claim was right."""
    rows: NDArray[np.int64]
    """Pairs in the bin."""


def mean_interval(
    x: Data,
    group: Labels | None = None,
    *,
    level: float = 0.95,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """The mean of ``x`` with an interval that holds for few and for skewed numbers.

    Student's t with G − 1 degrees of freedom, G being the groups; on a side to which skewness
    reaches further, Hall's transformation of t (1992, §3.4). So it is never narrower than
    Student's. Ten exponential numbers hold their mean in 94 of 100 such intervals, where Student's
    alone gets 90; of ten normal ones it is 96.

    Rows of one ``group`` (the pairs of a prompt, the answers of a seed) are not independent: the
    spread is that of the jackknife which leaves out one group at a time (Tukey, 1958). A single
    group has no spread to learn from: its interval is as wide as ``within``, what a mean can be.
    """
    values = _numbers(x)
    pseudo = _pseudo_values(values, group)
    estimate = float(values.mean()) if len(values) else math.nan
    if len(pseudo) < 2:
        return Interval(estimate, *within, level, len(pseudo))
    down, up = _reaches(pseudo, level)
    low, high = max(estimate - down, within[0]), min(estimate + up, within[1])
    return Interval(estimate, low, high, level, len(pseudo))


def paired_difference(
    a: Data, b: Data, group: Labels | None = None, *, level: float = 0.95
) -> Interval:
    """``mean_interval`` of a − b, row i of both being the same prompt: its difficulty cancels."""
    return mean_interval(_numbers(a) - _numbers(b), group, level=level)


def jackknife_interval(
    estimate: float,
    without: Data,
    *,
    level: float = 0.95,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """A smooth statistic of G groups with the interval of its jackknife (Tukey, 1958).

    ``without``: the statistic with each group left out. Student's t, or Hall's where it reaches
    further, as ``mean_interval`` has it.
    """
    left = _numbers(without)
    groups = len(left)
    if groups < 2 or not np.isfinite(left).all() or not math.isfinite(estimate):
        return Interval(estimate, *within, level, groups)
    down, up = _reaches(groups * estimate - (groups - 1) * left, level)
    low, high = max(estimate - down, within[0]), min(estimate + up, within[1])
    return Interval(estimate, low, high, level, groups)


def share_interval(hits: Data, group: Labels | None = None, *, level: float = 0.95) -> Interval:
    """The mean of ``hits`` (1, 0, or between: a tie is ½) with Wilson's interval.

    Where rows share a ``group`` it is that of ``bounded_interval``.
    """
    values = _numbers(hits)
    if group is None or len(np.unique(_group(group, len(values)))) == len(values):
        return wilson(float(values.sum()), len(values), level=level)
    return bounded_interval(values, group, level=level)


def bounded_interval(
    x: Data,
    group: Labels | None = None,
    *,
    within: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> Interval:
    """The mean of numbers that lie ``within`` known bounds, with an interval that does so too.

    Wilson's, of as many rows as would tell as much if they were independent and at the bounds:
    p(1 − p) over the jackknife's variance, at least Kish's number of groups (1965), with Student's
    t of groups − 1 in the place of the normal (Korn and Graubard, 1998). So that a share near a
    bound is not taken for certain, that variance counts two groups more, one at either bound, and
    is never below that of as many rows without groups. From 20 groups on it holds the mean in 93
    of 100 cases or more, of beta-binomial groups with means from 0.01 to 0.99.
    """
    bottom, width = within[0], within[1] - within[0]
    values = (_numbers(x) - bottom) / width
    rows, pseudo = len(values), _pseudo_values(values, group)
    units, p = len(pseudo), float(values.mean()) if rows else math.nan
    if units < 2:
        return Interval(bottom + p * width, *within, level, units)
    sizes = np.unique(_group(group, rows), return_counts=True)[1]
    more = np.append(pseudo, (0.0, 1.0))
    middle = float(more.mean())
    variance = max(float(more.var(ddof=1)) / units, float(values.var()) / rows)
    worth = max(middle * (1 - middle) / variance, rows**2 / float((sizes**2).sum()))
    low, high = wilson_bounds(p, worth, float(stdtrit(units - 1, (1 + level) / 2)))
    mean, least, most = (bottom + float(end) * width for end in (p, low, high))
    return Interval(mean, least, most, level, units)


def wilson(successes: float | int, trials: float | int, *, level: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson, 1927): honest at 0 %, at 100 % and for few trials.

    Ties may count as half a success.
    """
    if trials <= 0:
        return Interval(math.nan, 0.0, 1.0, level, 0)
    p = successes / trials
    low, high = wilson_bounds(p, trials, NormalDist().inv_cdf((1 + level) / 2))
    return Interval(p, float(low), float(high), level, math.floor(trials))


def wilson_bounds(
    p: Data | float | int, n: Data | float | int, z: float
) -> tuple[Numbers, Numbers]:
    """Wilson's interval of one share or many, at ``z`` standard errors; n need not be whole."""
    p, n = _numbers(p), _numbers(n)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low, high = np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
    # Rounding may put an end past the share itself.
    return np.asarray(np.minimum(low, p)), np.asarray(np.maximum(high, p))


def _group(group: Labels | None, rows: int) -> NDArray[Any]:
    return np.arange(rows) if group is None else np.asarray(group)


def _pseudo_values(values: Numbers, group: Labels | None) -> Numbers:
    """[G] G·mean − (G − 1)·mean without the group: its own mean where all are of one size."""
    _, row = np.unique(_group(group, len(values)), return_inverse=True)
    totals, sizes = np.bincount(row, weights=values), np.bincount(row)
    groups, rows = len(sizes), len(values)
    if groups < 2:
        return np.zeros(groups)
    return groups * values.mean() - (groups - 1) * (values.sum() - totals) / (rows - sizes)


def _reaches(values: Numbers, level: float) -> tuple[float, float]:
    """How far the interval of a mean goes down and up: Student's t, or Hall's where it is more."""
    n, spread = len(values), float(values.std(ddof=1))
    plain = float(stdtrit(n - 1, (1 + level) / 2))
    if not spread > ROUNDING * float(np.abs(values).max()):
        return 0.0, 0.0
    error, centred = spread / math.sqrt(n), values - values.mean()
    third = float((centred**3).mean() / (centred**2).mean() ** 1.5) / math.sqrt(n)
    if abs(third) < ROUNDING:
        return plain * error, plain * error

    def hall(t: float) -> float:
        return 3 / third * (float(np.cbrt(1 + third * (t - third / 6))) - 1)

    return error * max(plain, hall(plain)), error * max(plain, -hall(-plain))


def accuracy(delta: Data) -> Numbers:
    """Per pair: 1 where the preferred answer scored higher, ½ where both scored the same."""
    return (np.sign(_numbers(delta)) + 1) / 2


def log_loss(delta: Data, target: Data | float = 1.0) -> Numbers:
    """Cross-entropy of σ(Δ), in nats per pair; ln 2 is what guessing gets."""
    delta, target = _numbers(delta), _numbers(target)
    return np.logaddexp(0, -delta) + (1 - target) * delta


def brier(delta: Data, target: Data | float = 1.0) -> Numbers:
    """(σ(Δ) − target)², per pair; ¼ is what guessing gets (Brier, 1950)."""
    return (expit(_numbers(delta)) - _numbers(target)) ** 2


def reliability_curve(delta: Data, target: Data | float = 1.0, *, bins: int = 10) -> Reliability:
    """Claimed against true accuracy in bins of equal mass (Guo et al., 2017).

    The model claims σ(|Δ|) for the answer that it scores higher. Pairs with the same claim share
    a bin, so bins can be fewer than asked for.
    """
    delta = _numbers(delta)
    claimed = np.asarray(expit(np.abs(delta)), np.float64)
    hits = accuracy(delta)
    target = np.broadcast_to(_numbers(target), delta.shape)
    right = hits * target + (1 - hits) * (1 - target)
    inner = np.quantile(claimed, np.linspace(0, 1, bins + 1)[1:-1]) if len(claimed) else claimed
    place = np.searchsorted(inner, claimed)
    rows = np.bincount(place, minlength=bins)
    full = rows > 0
    confidence = np.bincount(place, weights=claimed, minlength=bins)[full] / rows[full]
    share = np.bincount(place, weights=right, minlength=bins)[full] / rows[full]
    return Reliability(confidence, share, rows[full].astype(np.int64))


def calibration_error(delta: Data, target: Data | float = 1.0, *, bins: int = 10) -> float:
    """Expected calibration error: mean |accuracy − confidence| over pairs (Naeini et al., 2015)."""
    curve = reliability_curve(delta, target, bins=bins)
    if not len(curve.rows):
        return math.nan
    gaps = np.abs(curve.accuracy - curve.confidence)
    return float((gaps * curve.rows).sum() / curve.rows.sum())


def calibration_slope(delta: Data, target: Data | float = 1.0) -> float:
    """The a for which σ(a·Δ) fits best; below 1 the model claims too much (Cox, 1958).

    There is no intercept: which of two answers is named first must not matter. Infinite where
    every pair is right (or, negative, wrong); not a number where no score differs.
    """
    delta = _numbers(delta)
    target = np.broadcast_to(_numbers(target), delta.shape)
    scale = float(np.abs(delta).mean()) if len(delta) else 0.0
    if scale == 0:
        return math.nan
    x = delta / scale
    at_infinity = np.where(x > 0, 1.0, np.where(x < 0, 0.0, 0.5))
    if (x * (target - at_infinity)).sum() >= 0:
        return math.inf
    if (x * (target - (1 - at_infinity))).sum() <= 0:
        return -math.inf
    return _fit_slope(x, target) / scale


def _fit_slope(x: Numbers, target: Numbers) -> float:
    """Newton's method from 0; NaN where a number is none.

    The curvature is greatest at 0 and falls on either side, so that no step is ever too long.
    """
    if not np.isfinite(x).all():
        return math.nan
    optimize: Any = import_module("scipy.optimize")

    def pull(slope: float) -> float:
        return float((x * (expit(slope * x) - target)).sum())

    def curvature(slope: float) -> float:
        return float((x**2 * expit(slope * x) * expit(-slope * x)).sum())

    return float(optimize.newton(pull, 0.0, curvature, tol=1e-12, rtol=1e-12, maxiter=1000))


def slope_interval(
    delta: Data, target: Data | float = 1.0, group: Labels | None = None, *, level: float = 0.95
) -> Interval:
    """``calibration_slope`` with its interval: the sandwich over groups (Liang and Zeger, 1986),
    Student's t of groups − 1. Without ends where the slope is infinite or there is one group.
    """
    slope = calibration_slope(delta, target)
    delta = _numbers(delta)
    target = np.broadcast_to(_numbers(target), delta.shape)
    _, row = np.unique(_group(group, len(delta)), return_inverse=True)
    units = int(row.max(initial=-1)) + 1
    unknown = Interval(slope, -math.inf, math.inf, level, units)
    if units < 2 or not math.isfinite(slope):
        return unknown
    p = expit(slope * delta)
    curvature = float((delta**2 * p * (1 - p)).sum())
    if not curvature > 0:
        return unknown
    pulls = np.bincount(row, weights=delta * (target - p))
    error = math.sqrt(float((pulls**2).sum()) * units / (units - 1)) / curvature
    reach = float(stdtrit(units - 1, (1 + level) / 2)) * error
    return Interval(slope, slope - reach, slope + reach, level, units)


def temperature(delta: Data, target: Data | float = 1.0) -> float:
    """The T for which σ(Δ/T) fits best (Guo et al., 2017); above 1 the model claims too much.

    Infinite where the scores say nothing, or the opposite of what people said.
    """
    slope = calibration_slope(delta, target)
    return 1 / slope if slope > 0 else slope if math.isnan(slope) else math.inf


def pearson(x: Data, y: Data) -> float:
    """Linear correlation; not a number where x or y has no spread."""
    a, b = _numbers(x), _numbers(y)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def distinct_n(answers: Sequence[Sequence[Hashable]], *, n: int) -> float:
    """Different n-grams per n-gram over all answers, 0 to 1 (Li et al., 2016); low is repetitive.

    Falls with the amount of text: compare equal amounts only. Not a number without an n-gram.
    """
    seen: Counter[tuple[Hashable, ...]] = Counter()
    for answer in answers:
        seen.update(zip(*(answer[i:] for i in range(n)), strict=False))
    return len(seen) / seen.total() if seen else math.nan


def kl_best_of_n(n: int) -> float:
    """KL(best of n‖policy) in nats: log n − (n − 1)/n (Stiennon et al., 2020, app. G).

    Exact where no two answers can score the same, an upper bound otherwise.
    """
    return math.log(n) - (n - 1) / n


def _numbers(x: Data | float | int) -> Numbers:
    if isinstance(x, Tensor):
        x = x.detach().double().cpu().numpy()
    return np.asarray(x, dtype=np.float64)
