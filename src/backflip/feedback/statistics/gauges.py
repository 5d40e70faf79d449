"""Three gauges of bias for each rater: P(prefers longer), P(prefers lists), P(prefers first).

Each has two readings, and they answer different questions.

*share* is AlpacaEval's (Dubois et al., 2023): of the rater's choices between answers that differ
in the feature, the share for the one that has more of it. It mixes taste with truth: where longer
answers are better, a perfect rater has 0.6 too.

*own* is the rater's own: P(takes the longer of two equally good answers), longer by the project's
r.m.s. difference, sides shuffled, lists alike; likewise for the one with more list marks, and for
the one displayed first. Half is no bias. Quality is not observed, so it is a latent variable of a
model:

    log odds that rater k takes a of item i  =  α_k θ_i + b_k · z_ik,      θ_i ~ N(0, 1)

z holds the displayed side (±1), the squashed difference in length, and which answer has more list
marks; α_k is how closely k follows quality; ties are Davidson's (1970), P(tie) ∝ ν_k. θ is
integrated out. A regression on the other raters' vote instead of θ goes wrong twice: the vote is
noisy, so what it misses of quality is taken for taste, and all coefficients shrink for want of
the rest of θ.

Sides are shuffled, so "first" needs nothing else. Length is not: a taste that all raters share
looks just like quality. Something must say what quality owes to length, as a slope γ, and then
own_k = b_k − α_k γ:

* "gold": items with a gold preference enter as one more rater, and γ is its b/α.
* "crowd": γ = Σb/Σα over raters: the gauge says how much more than the others here.

Intervals are Laplace's, from the observed information of all raters together (Louis, 1982). Of
simulated raters they hold the truth in 95 to 97 of 100 cases, also where quality has heavy tails;
where it has two clumps and none between, those of length against gold in 85.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

from backflip.feedback.statistics.judgements import Floats, Ints, Judgements
from backflip.feedback.statistics.latent import SLOPE, Design, covariance, evaluate, penalty
from backflip.functional.statistics import Interval, wilson

Reference = Literal["gold", "crowd"]
ENOUGH_GOLD = 30
"""Items with a gold preference and judgements, from which on gold is the reference by itself."""
SIGNED = frozenset({"lists"})
"""Features of which only the sign counts: one answer has more of it or not."""


def contrasts(features: Mapping[str, Floats]) -> dict[str, Floats]:
    """Contrasts of two answers that raters can react to, each [I], odd in the difference.

    1 for a difference of the r.m.s. (tanh beyond: no answer is 20 times too long), or, for lists,
    wherever a has more list marks than b.
    """
    found = dict[str, Floats]()
    for name, given in features.items():
        x = np.nan_to_num(np.asarray(given, np.float64))
        size = float(np.sqrt((x**2).mean())) if len(x) else 0.0
        plain = np.sign(x) if name in SIGNED else np.tanh(x / (size or 1.0)) / np.tanh(1.0)
        found[name] = plain
    return found


@dataclass(frozen=True)
class Gauge:
    """One rater, one feature."""

    share: Interval
    """Raw share of choices for more of the feature (for the answer displayed first)."""
    own: Interval
    """P(prefers it, quality equal); the interval excludes ½ where the bias is beyond doubt."""
    choices: int
    """Choices that the share is of: ties and pairs that do not differ are left out."""

    @property
    def biased(self) -> bool:
        """Whether ½ lies outside the interval of ``own``."""
        return self.own.low > 0.5 or self.own.high < 0.5


@dataclass(frozen=True)
class Gauges:
    """All raters' gauges."""

    by_rater: list[dict[str, Gauge]]
    """For each rater "first", and each feature that the judgements have."""
    reference: Reference
    """Reference of "no bias", for all gauges but "first"."""
    sharpness: Floats
    """[R] α: how closely raters follow quality, in log odds per standard deviation of it."""
    accuracy: Floats
    """[R] P(right), were the rater without bias: mean of σ(α|θ|)."""
    tie: Floats
    """[R] P(tie) between equally good answers, ν/(2 + ν): who calls ties readily."""
    judgements: int
    """That the fit saw."""


def gauges(
    judgements: Judgements,
    *,
    reference: Reference | None = None,
    level: float = 0.95,
    most: int = 100_000,
    seed: int = 0,
) -> Gauges:
    """Fit all raters at once. A hundred thousand judgements take half a minute: a job, not a page.

    ``reference`` is gold where ``ENOUGH_GOLD`` items have it, else the crowd. Of more than ``most``
    judgements a random part of the items is used for ``own``; shares are of all.
    Raises ValueError for ratings: they have no sides.
    """
    if not judgements.paired:
        raise ValueError("gauges need comparisons of two; ratings have no sides.")
    said = judgements.sides().said()
    zs = contrasts(said.features)
    part = _part(said, most, seed)
    known = np.isin(np.arange(said.items), part.item) & (np.nan_to_num(said.gold) != 0)
    against: Reference = reference or ("gold" if known.sum() >= ENOUGH_GOLD else "crowd")
    design = _design(part, zs, np.flatnonzero(known) if against == "gold" else None)
    fitted, spread = _fit(design)
    own, sharp = _own(fitted, spread, said.raters, against, level)
    names = ["first", *zs]
    shares = [_shares(said, said.first), *(_shares(said, np.sign(zs[f])[said.item]) for f in zs)]
    by_rater = [
        {
            name: Gauge(wilson(*shares[d][k], level=level), own[k][d], shares[d][k][1])
            for d, name in enumerate(names)
        }
        for k in range(said.raters)
    ]
    tie = expit(fitted[: said.raters, -1] - np.log(2)) if design.ties else np.zeros(said.raters)
    middle = NormalDist().inv_cdf
    quality = np.array([middle((i + 0.5) / 400) for i in range(200, 400)])
    accuracy = expit(sharp[:, None] * quality).mean(1)
    return Gauges(by_rater, against, sharp, accuracy, tie, len(part))


def _part(said: Judgements, most: int, seed: int) -> Judgements:
    if len(said) <= most:
        return said
    order = np.random.default_rng(seed).permutation(said.items)
    load = np.bincount(said.item, minlength=said.items)[order].cumsum()
    keep = np.zeros(said.items, np.bool_)
    keep[order[load <= most]] = True
    return said.where(keep[said.item])


def _design(said: Judgements, zs: Mapping[str, Floats], golden: Ints | None) -> Design:
    """Rows for the model; gold is one more rater, who sees no sides."""
    table = np.stack([*zs.values()], axis=1) if zs else np.zeros((said.items, 0))
    item, rater, value, first = said.item, said.rater, said.value, said.first
    raters = said.raters
    if golden is not None:
        item = np.concatenate([item, golden])
        rater = np.concatenate([rater, np.full(len(golden), raters)])
        value = np.concatenate([value, np.sign(said.gold[golden])])
        first = np.concatenate([first, np.zeros(len(golden))])
        raters += 1
    return Design.of(item, rater, value, np.column_stack([first, table[item]]), raters)


def _fit(design: Design) -> tuple[Floats, Floats | csr_matrix]:
    """Parameters [R, P] at the mode, and their covariance [R·P, R·P]."""
    start = design.start()

    def objective(x: Floats) -> tuple[float, Floats]:
        value, slope = evaluate(design, x.reshape(start.shape))
        cost, pull = penalty(design, x.reshape(start.shape))
        return cost - value, (pull - slope).ravel()

    found = minimize(
        objective,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-10, "gtol": 1e-4 * max(1.0, len(design.value) ** 0.5)},
    )
    fitted = found.x.reshape(start.shape)
    return fitted, covariance(design, fitted)


def _own(
    fitted: Floats, spread: Floats | csr_matrix, raters: int, against: Reference, level: float
) -> tuple[list[list[Interval]], Floats]:
    """Each rater's b − α γ with the delta method, as probabilities [R][D]; and α [R]."""
    many, size = fitted.shape
    dimensions = size - 2
    alpha, steep = np.sinh(fitted[:, SLOPE]), np.cosh(fitted[:, SLOPE])
    reach = NormalDist().inv_cdf((1 + level) / 2)
    chosen = np.arange(raters, many) if against == "gold" else np.arange(raters)
    total = float(alpha[chosen].sum())
    found = [list[Interval]() for _ in range(raters)]
    for d in range(dimensions):
        b = fitted[:, 1 + d]
        gamma = 0.0 if d == 0 else float(b[chosen].sum()) / total
        slope = np.zeros((raters, many, size))
        who = np.arange(raters)
        slope[who, who, 1 + d] = 1.0
        if d > 0:
            slope[who, who, SLOPE] = -gamma * steep[who]
            slope[:, chosen, 1 + d] -= alpha[who, None] / total
            slope[:, chosen, SLOPE] += alpha[who, None] * gamma * steep[chosen] / total
        flat = slope.reshape(raters, many * size)
        error = np.sqrt(np.maximum((flat * (spread @ flat.T).T).sum(1), 0.0))
        value = b[:raters] - alpha[:raters] * gamma
        low, mid, high = expit(value - reach * error), expit(value), expit(value + reach * error)
        for k in who:
            found[k].append(Interval(float(mid[k]), float(low[k]), float(high[k]), level))
    return found, alpha[:raters]


def _shares(said: Judgements, more: Floats) -> list[tuple[float, int]]:
    """By rater: choices for more, and choices at all; ``more`` [N] is 1 where a has more, −1
    where b.
    """
    side = said.value * more
    counts = np.bincount(said.rater[side != 0], minlength=said.raters)
    wins = np.bincount(said.rater[side > 0], minlength=said.raters)
    return [(float(w), int(n)) for w, n in zip(wins, counts, strict=True)]
