"""Labels, raters' ability and items' difficulty together (GLAD: Whitehill et al., 2009).

P(rater k is right about item i) = σ(α_k β_i): α below 0 is somebody who turns answers round,
1/β_i is the item's difficulty, β > 0. Who is wrong is wrong in every way alike, 1/(C − 1) each.
Priors are the paper's: α ~ N(1, 1), log β ~ N(1, 1), and classes are equally likely beforehand.
The difference: each M step is some Newton steps with the expected curvature, not a line search
along the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import expit, log_expit, logsumexp

from backflip.feedback.statistics.aggregate import Labels, likeliest
from backflip.feedback.statistics.judgements import Floats, Ints, Judgements

PRIOR_MEAN, PRIOR_VARIANCE = 1.0, 1.0
LONGEST = 1.0
"""Greatest change of a parameter in one Newton step."""


@dataclass(frozen=True)
class Glad:
    """Result of EM."""

    labels: Labels
    """Error bars hold what is not known of ability and difficulty."""
    ability: Floats
    """[R] α, in log odds for an item of β = 1."""
    ease: Floats
    """[I] β."""
    reliability: Floats
    """[R] σ(α β), averaged over all items that anybody judged."""
    steps: int


@dataclass(frozen=True)
class _Rows:
    item: Ints
    rater: Ints
    code: Ints
    items: int
    raters: int
    size: int

    def by_item(self, x: Floats) -> Floats:
        return np.bincount(self.item, weights=x, minlength=self.items).astype(np.float64)

    def by_rater(self, x: Floats) -> Floats:
        return np.bincount(self.rater, weights=x, minlength=self.raters).astype(np.float64)


def glad(
    judgements: Judgements, *, steps: int = 200, newton_steps: int = 3, tolerance: float = 1e-4
) -> Glad:
    """EM from α = 1, β = e until no posterior moves by more than ``tolerance``."""
    said = judgements.said()
    classes, code = said.classes()
    size = max(len(classes), 2)
    rows = _Rows(said.item, said.rater, code, said.items, said.raters, size)
    alpha, log_beta = np.full(said.raters, PRIOR_MEAN), np.full(said.items, PRIOR_MEAN)
    posterior, step = _expect(rows, alpha, log_beta), 0
    for step in range(1, steps + 1):  # noqa: B007 - reported below
        alpha, log_beta = _maximise(rows, posterior, alpha, log_beta, newton_steps)
        before, posterior = posterior, _expect(rows, alpha, log_beta)
        if np.abs(posterior - before).max(initial=0.0) <= tolerance:
            break
    judged = np.bincount(said.item, minlength=said.items)
    labels = _labels(rows, posterior[:, : len(classes)], alpha, log_beta, classes, judged)
    ease = np.exp(log_beta)
    reliability = np.array([expit(a * ease[judged > 0]).mean() for a in alpha])
    reliability = np.where(rows.by_rater(np.ones(len(said))) > 0, reliability, np.nan)
    return Glad(labels, alpha, np.where(judged > 0, ease, np.nan), reliability, step)


def _expect(rows: _Rows, alpha: Floats, log_beta: Floats) -> Floats:
    """[I, C] P(class is true)."""
    x = alpha[rows.rater] * np.exp(log_beta[rows.item])
    wrong = log_expit(-x) - float(np.log(rows.size - 1))
    joint = np.repeat(rows.by_item(wrong)[:, None], rows.size, axis=1)
    gain = log_expit(x) - wrong
    joint += np.bincount(
        rows.item * rows.size + rows.code, weights=gain, minlength=rows.items * rows.size
    ).reshape(-1, rows.size)
    return np.exp(joint - np.asarray(logsumexp(joint, axis=1, keepdims=True)))


def _maximise(
    rows: _Rows, posterior: Floats, alpha: Floats, log_beta: Floats, newton_steps: int
) -> tuple[Floats, Floats]:
    """Ascend the expected log posterior in α, then in log β, some times over."""
    hit = posterior[rows.item, rows.code]
    for _ in range(newton_steps):
        beta = np.exp(log_beta)[rows.item]
        p = expit(alpha[rows.rater] * beta)
        slope = rows.by_rater(beta * (hit - p)) - (alpha - PRIOR_MEAN) / PRIOR_VARIANCE
        curve = rows.by_rater(beta**2 * p * (1 - p)) + 1 / PRIOR_VARIANCE
        alpha = alpha + np.clip(slope / curve, -LONGEST, LONGEST)
        x = alpha[rows.rater] * beta
        p = expit(x)
        slope = rows.by_item(x * (hit - p)) - (log_beta - PRIOR_MEAN) / PRIOR_VARIANCE
        curve = rows.by_item(x**2 * p * (1 - p)) + 1 / PRIOR_VARIANCE
        log_beta = log_beta + np.clip(slope / curve, -LONGEST, LONGEST)
    return alpha, log_beta


def _labels(
    rows: _Rows,
    posterior: Floats,
    alpha: Floats,
    log_beta: Floats,
    classes: Floats,
    judged: Ints,
) -> Labels:
    """Error bars by the delta method.

    The log odds of the label are Σ ±x_ki over its raters, x = α_k β_i (nearly: for p far from ½),
    and the variance of x is that of α and log β at the mode of their posterior.
    """
    beta = np.exp(log_beta)
    x = alpha[rows.rater] * beta[rows.item]
    info = expit(x) * expit(-x)
    var_alpha = 1 / (rows.by_rater(beta[rows.item] ** 2 * info) + 1 / PRIOR_VARIANCE)
    var_beta = 1 / (rows.by_item(x**2 * info) + 1 / PRIOR_VARIANCE)
    best = posterior.argmax(1)
    sign = np.where(rows.code == best[rows.item], 1.0, -1.0)
    rest = (rows.by_item(sign * x)) ** 2 * var_beta
    variance = rows.by_item(var_alpha[rows.rater] * beta[rows.item] ** 2) + rest
    p = np.clip(posterior.max(1, initial=0.0), 1e-10, 1 - 1e-10)
    centre, reach = np.log(p / (1 - p)), NormalDist().inv_cdf(0.975) * np.sqrt(variance)
    blank = np.where(judged > 0, 1.0, np.nan)
    shown = posterior * blank[:, None]
    low, high = expit(centre - reach) * blank, expit(centre + reach) * blank
    return Labels(classes, shown, likeliest(shown), low, high, judged)
