"""Beliefs of a small model about pairs nobody has judged: a posterior, or an ensemble.

The model is Bradley-Terry's, linear in what an item shows of its two answers, x = φ(a) − φ(b):
P(a better) = σ(w·x). It has no intercept, so which answer is called a makes no difference. It
chooses questions and compares arms; the reward model that trains on the answers is another one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from backflip.feedback.choose.queries import OVERSAMPLING, entropy, top
from backflip.feedback.statistics.judgements import Flags, Floats, Ints

SCALES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Standard deviations of the prior among which the evidence chooses."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
BLOCK = 64
"""Gains that are worked out at once."""
STEPS, SHORTEST, AT_REST = 100, 1e-6, 1e-9
"""Of Newton's method: it needs about six steps; a step is halved down to this part of it; the end
is where the loss falls by no more than this part of it."""


@dataclass(frozen=True)
class Linear:
    """w ~ N(mean, covariance), d-dimensional: Laplace's approximation of the posterior."""

    mean: Floats
    """[d]"""
    covariance: Floats
    """[d, d]"""
    scale: float
    """Standard deviation of the prior of each weight."""
    evidence: float
    """log P(what people said | scale), by the same approximation."""

    def log_odds(self, x: Floats) -> tuple[Floats, Floats]:
        """[N] Mean and [N] variance of w·x."""
        return x @ self.mean, np.maximum(((x @ self.covariance) * x).sum(1), 0.0)

    def p(self, x: Floats) -> Floats:
        """[N] P(a), with the doubt about w in it: σ(μ/√(1 + πs²/8)) (MacKay, 1992)."""
        mean, variance = self.log_odds(x)
        return expit(mean / np.sqrt(1 + math.pi * variance / 8))

    def draws(self, x: Floats, count: int, *, seed: int = 0) -> Floats:
        """[count, N] Log odds of as many draws of w: an ensemble for the acquisitions."""
        noise = np.random.default_rng(seed).normal(size=(count, len(self.mean)))
        values, turn = np.linalg.eigh(self.covariance)
        w = self.mean + (noise * np.sqrt(np.maximum(values, 0.0))) @ turn.T
        return w @ x.T


def fit_linear(
    x: Floats, share: Floats, weight: Floats | None = None, *, scale: float | None = None
) -> Linear:
    """The posterior of w given items' features x [I, d] and the share of their votes for a [I].

    ``weight`` [I] is the number of votes, 1 where not given; a tie is half a vote for each side.
    ``scale``: of the prior; none: the one of ``SCALES`` under which what was said is likeliest
    (MacKay, 1992), so that features may have any unit as long as they share it.
    """
    weight = np.ones(len(x)) if weight is None else weight
    scales = SCALES if scale is None else (scale,)
    return max((_fit(x, share, weight, s) for s in scales), key=lambda one: one.evidence)


def _fit(x: Floats, share: Floats, weight: Floats, scale: float) -> Linear:
    d = x.shape[1]
    w = modes(x, share, weight[None], scale)[0]
    logits = x @ w
    p = expit(logits)
    curve = (x * (weight * p * (1 - p))[:, None]).T @ x + np.eye(d) / scale**2
    factor = cho_factor(curve, lower=True)
    covariance = cho_solve(factor, np.eye(d))
    said = float((weight * (np.logaddexp(0, logits) - share * logits)).sum())
    bent = float(np.log(np.diag(factor[0])).sum())
    evidence = -said - float(w @ w) / (2 * scale**2) - d * math.log(scale) - bent
    return Linear(w, covariance, scale, evidence)


def modes(
    x: Floats, share: Floats, weight: Floats, scale: float, start: Floats | None = None
) -> Floats:
    """[R, d] The likeliest w under each of R weighings of the items [R, I].

    Newton's method, all at once, steps halved where they lead uphill. The loss is convex, so it
    arrives, from ``start`` [R, d] or from 0.
    """
    w = np.zeros((len(weight), x.shape[1])) if start is None else start
    ridge, eye = 1 / scale**2, np.eye(x.shape[1])

    def loss(w: Floats) -> Floats:
        logits = w @ x.T
        said = (weight * (np.logaddexp(0, logits) - share * logits)).sum(1)
        return said + ridge * (w**2).sum(1) / 2

    at = loss(w)
    for _ in range(STEPS):
        p = expit(w @ x.T)
        slope = (weight * (p - share)) @ x + ridge * w
        bend = weight * p * (1 - p)
        curve = np.stack([(x * row[:, None]).T @ x + ridge * eye for row in bend])
        move = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        reach = np.ones(len(w))
        then = loss(w - move)
        while (uphill := (then > at) & (reach > SHORTEST)).any():
            reach = np.where(uphill, reach / 2, reach)
            then = loss(w - reach[:, None] * move)
        before, at = at, np.minimum(then, at)
        w = np.where((then <= before)[:, None], w - reach[:, None] * move, w)
        if (before - at <= AT_REST * (1 + np.abs(at))).all():
            break
    return w


# ---- expected information of a posterior


def expected_information(mean: Floats, variance: Floats, *, noise: float = 0.0) -> Floats:
    """[N] Nats about w that an answer is expected to bring: H(E p) − E H(p), log odds ~ N(μ, s²).

    By Gauss-Hermite quadrature; ``noise`` is the share of answers that are coin tosses.
    """
    found = np.empty(len(mean))
    weights = WEIGHTS / WEIGHTS.sum()
    for start in range(0, len(mean), 50_000):
        part = slice(start, start + 50_000)
        f = mean[part, None] + np.sqrt(variance[part, None]) * NODES
        p = (1 - noise) * expit(f) + noise / 2
        found[part] = entropy(p @ weights) - entropy(p) @ weights
    return np.maximum(found, 0.0)


def informative(
    belief: Linear,
    x: Floats,
    count: int,
    *,
    noise: float = 0.0,
    allowed: Flags | None = None,
) -> Ints:
    """Pairs that together tell most about w: always the best one given those chosen before it.

    The answer is not known yet, only how much narrower it makes the posterior: its
    precision grows by E[p(1 − p)] x xᵀ. So two pairs that ask the same are not both taken. Chosen
    of the ``OVERSAMPLING``·count pairs that are best alone.
    """
    mean, variance = belief.log_odds(x)
    alone = expected_information(mean, variance, noise=noise)
    short = top(alone, OVERSAMPLING * count, allowed=allowed)
    mean, variance = mean[short], variance[short].copy()
    pull, reach = _pull(mean, variance, noise), x[short] @ _root(belief.covariance)
    gain, chosen = alone[short], list[int]()
    while len(chosen) < min(count, len(short)):
        best = _leader(gain, mean, variance, noise)
        chosen.append(best)
        gain[best] = -np.inf
        along = reach @ reach[best]
        shrink = pull[best] / (1 + pull[best] * max(along[best], 0.0))
        variance = np.maximum(variance - shrink * along**2, 0.0)
        reach = _narrowed(reach, reach[best], pull[best])
    return short[np.array(chosen, np.int64)]


def _leader(gain: Floats, mean: Floats, variance: Floats, noise: float) -> int:
    """Where the largest gain is. Old gains are upper bounds, for doubt only shrinks, so only those
    that lead are worked out anew (Minoux, 1978); ``gain`` is brought up to date on the way.
    """
    fresh = np.zeros(len(gain), np.bool_)
    while not fresh[best := int(np.argmax(gain))]:
        block = np.argpartition(-gain, min(BLOCK, len(gain)) - 1)[:BLOCK]
        block = block[~fresh[block] & (gain[block] >= 0)]
        gain[block] = expected_information(mean[block], variance[block], noise=noise)
        fresh[block] = True
    return best


def _pull(mean: Floats, variance: Floats, noise: float) -> Floats:
    """[N] Expected curvature of an answer's log likelihood: E[p(1 − p)], less with noise."""
    f = mean[:, None] + np.sqrt(variance[:, None]) * NODES
    p = expit(f)
    heard = (1 - noise) * p + noise / 2
    fisher = ((1 - noise) * p * (1 - p)) ** 2 / np.maximum(heard * (1 - heard), 1e-12)
    return fisher @ (WEIGHTS / WEIGHTS.sum())


def _root(covariance: Floats) -> Floats:
    """R with R Rᵀ = covariance."""
    values, turn = np.linalg.eigh(covariance)
    return turn * np.sqrt(np.maximum(values, 0.0))


def _narrowed(reach: Floats, v: Floats, pull: float) -> Floats:
    """The factor x R once precision has grown by ``pull`` along v = x₀ R: R (I + pull v vᵀ)^−½."""
    size = float(v @ v)
    if size <= 0:
        return reach
    shorter = (1 / math.sqrt(1 + pull * size) - 1) / size
    return reach + shorter * np.outer(reach @ v, v)
