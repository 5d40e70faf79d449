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
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]
Data = Sequence[float | int] | NDArray[Any] | Tensor
Labels = Sequence[Hashable] | NDArray[Any] | Tensor

CHUNK = 1 << 22
"""How many resampled indices are held at once: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """A number and the range that it may well lie in."""

    estimate: float
    low: float
    high: float
    level: float
    """How often such ranges hold the true number, 0.95 for example."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign is beyond doubt, at this level."""
        return self.low > 0 or self.high < 0

    def as_json(self) -> dict[str, float] | None:
        """estimate, low and high; None where one of them is not finite: nothing is known."""
        ends = {"estimate": self.estimate, "low": self.low, "high": self.high}
        known = all(math.isfinite(value) for value in ends.values())
        return {name: float(value) for name, value in ends.items()} if known else None

    def named(self, name: str) -> dict[str, float | None]:
        """The three as ``name``, ``name_low`` and ``name_high``, None where one is not finite."""
        ends = {"": self.estimate, "_low": self.low, "_high": self.high}
        return {name + end: finite(value) for end, value in ends.items()}


def finite(value: float | np.floating[Any]) -> float | None:
    """The number, or None where JSON has no word for it."""
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Reliability:
    """What the model claimed against what was true, bin by bin, from unsure to sure."""

    confidence: Numbers
    """Mean claimed probability of the bin, 0.5 to 1."""
    accuracy: Numbers
    """Share of the bin in which the claim was right."""
    rows: NDArray[np.int64]
    """Pairs in the bin."""


def bootstrap_mean(
    x: Data,
    group: Labels | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the mean of ``x`` (Efron, 1979), resampling whole groups.

    Rows of one ``group`` (the pairs of a prompt, the answers of a seed) are not independent:
    they are drawn together, or the interval comes out too narrow. A single group has no spread
    to learn from: its interval is infinite.
    """
    values = _numbers(x)
    estimate = float(values.mean()) if len(values) else math.nan
    keys = np.arange(len(values)) if group is None else np.asarray(group)
    _, row = np.unique(keys, return_inverse=True)
    totals, sizes = np.bincount(row, weights=values), np.bincount(row)
    if len(sizes) < 2:
        return Interval(estimate, -math.inf, math.inf, level)
    generator, means = np.random.default_rng(seed), list[Numbers]()
    for start in range(0, resamples, step := max(1, CHUNK // len(sizes))):
        size = (min(step, resamples - start), len(sizes))
        drawn = generator.integers(len(sizes), size=size)
        means.append(totals[drawn].sum(1) / sizes[drawn].sum(1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), level)


def paired_difference(
    a: Data,
    b: Data,
    group: Labels | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Bootstrap of mean(a − b) where row i of both is the same prompt: its difficulty cancels."""
    difference = _numbers(a) - _numbers(b)
    return bootstrap_mean(difference, group, level=level, resamples=resamples, seed=seed)


def wilson(successes: float | int, trials: float | int, *, level: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson, 1927): honest at 0 %, at 100 % and for few trials.

    Ties may count as half a success.
    """
    if trials <= 0:
        return Interval(math.nan, 0.0, 1.0, level)
    z, p = NormalDist().inv_cdf((1 + level) / 2), successes / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half), level)


def accuracy(delta: Data) -> Numbers:
    """Per pair: 1 where the preferred answer scored higher, ½ where both scored the same."""
    return (np.sign(_numbers(delta)) + 1) / 2


def log_loss(delta: Data, target: Data | float = 1.0) -> Numbers:
    """Cross-entropy of σ(Δ), in nats per pair; ln 2 is what guessing gets."""
    delta, target = _numbers(delta), _numbers(target)
    return np.logaddexp(0, -delta) + (1 - target) * delta


def brier(delta: Data, target: Data | float = 1.0) -> Numbers:
    """(σ(Δ) − target)², per pair; ¼ is what guessing gets (Brier, 1950)."""
    return (_sigmoid(_numbers(delta)) - _numbers(target)) ** 2


def reliability_curve(delta: Data, target: Data | float = 1.0, *, bins: int = 10) -> Reliability:
    """Claimed against true accuracy in bins of equal mass (Guo et al., 2017).

    The model claims σ(|Δ|) for the answer that it scores higher. Pairs with the same claim share
    a bin, so bins can be fewer than asked for.
    """
    delta = _numbers(delta)
    claimed = _sigmoid(np.abs(delta))
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
    """Newton's method from 0.

    The curvature is greatest at 0 and falls on either side, so that no step is ever too long.
    """
    slope = 0.0
    for _ in range(1000):
        p = _sigmoid(slope * x)
        step = float((x * (target - p)).sum() / (x**2 * p * (1 - p)).sum())
        slope += step
        if abs(step) <= 1e-12 * (1 + abs(slope)):
            break
    return slope


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
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum()))


def spearman(x: Data, y: Data) -> float:
    """Correlation of ranks, equal numbers sharing their mean rank (Spearman, 1904)."""
    return pearson(_ranks(_numbers(x)), _ranks(_numbers(y)))


def distinct_n(answers: Sequence[Sequence[Hashable]], *, n: int) -> float:
    """Different n-grams per n-gram over all answers, 0 to 1 (Li et al., 2016); low is repetitive.

    Falls with the amount of text: compare equal amounts only. Not a number without an n-gram.
    """
    seen: Counter[tuple[Hashable, ...]] = Counter()
    for answer in answers:
        seen.update(zip(*(answer[i:] for i in range(n)), strict=False))
    return len(seen) / seen.total() if seen else math.nan


def unique_token_ratio(answers: Sequence[Sequence[Hashable]]) -> Numbers:
    """Different tokens per token, answer by answer; not a number for an empty answer."""
    return _numbers([len(set(a)) / len(a) if len(a) else math.nan for a in answers])


def kl_best_of_n(n: int) -> float:
    """KL(best of n‖policy) in nats: log n − (n − 1)/n (Stiennon et al., 2020, app. G).

    Exact where no two answers can score the same, an upper bound otherwise.
    """
    return math.log(n) - (n - 1) / n


def _numbers(x: Data | float) -> Numbers:
    if isinstance(x, Tensor):
        x = x.detach().double().cpu().numpy()
    return np.asarray(x, dtype=np.float64)


def _sigmoid(x: Numbers) -> Numbers:
    return np.exp(-np.logaddexp(0, -x))


def _ranks(x: Numbers) -> Numbers:
    """1 for the smallest; equal numbers share their mean rank."""
    _, place, repeats = np.unique(x, return_inverse=True, return_counts=True)
    last = repeats.cumsum()
    return (last - (repeats - 1) / 2)[place]
