"""A score for each answer and a reliability for each rater (crowd-BT: Chen et al., 2013).

P(rater k takes a over b) = η_k σ(τ(s_a − s_b)) + (1 − η_k)(1 − σ(τ(s_a − s_b))). A rater with η =
½ tosses coins, one with η = 0 turns everything round. Two anchors make it well posed: scores have
a N(0, 1) prior (the likelihood does not change when all scores of a prompt are shifted), and
reliabilities a Beta prior, so that three lucky answers do not make η = 1. The mode of the
posterior is found by L-BFGS. A tie is half a choice for each side, and strengths are not used.

τ, a perfect rater's log odds for answers one standard deviation apart, is 1 in the paper. With
few judgements per answer that holds all scores close to 0 and lays what is left to the raters: of
20 simulated raters the reliabilities then correlate 0.6 with the truth, against 0.85 to 0.9 at
the 5 used here, where posteriors are calibrated best, too. Dawid and Skene's correlate 0.96: look
at those for raters, and here for answers.

Answers that several items share are ranked across items. Where every item has two answers of its
own, this is a vote weighted by reliability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from backflip.feedback.statistics.aggregate import Labels, likeliest
from backflip.feedback.statistics.judgements import Floats, Ints, Judgements

DENSE = 2000
"""Answers that hang together by comparisons, up to which a covariance matrix is inverted; where
there are more, scores are taken as independent of each other."""


@dataclass(frozen=True)
class CrowdBT:
    """The mode of the posterior."""

    labels: Labels
    """Of pairs, P(a is better) = σ(τ(s_a − s_b)), no ties; error bars are Laplace's, given the
    η."""
    score: Floats
    """[A] s, one for each answer; 0 where nobody judged it."""
    error: Floats
    """[A] Standard error of s."""
    reliability: Floats
    """[R] η."""
    reliability_error: Floats
    """[R] Standard error of η, given the scores."""


@dataclass(frozen=True)
class _Rows:
    winner: Ints
    loser: Ints
    rater: Ints
    weight: Floats
    answers: int
    raters: int
    sharpness: float

    def p(self, score: Floats) -> Floats:
        """Chance that a perfect rater takes the winner."""
        return expit(self.sharpness * (score[self.winner] - score[self.loser]))


def crowd_bt(
    judgements: Judgements,
    *,
    sharpness: float = 5.0,
    beta: tuple[float, float] = (4.0, 2.0),
    steps: int = 500,
) -> CrowdBT:
    """Fit scores and reliabilities.

    ``sharpness`` is τ; ``beta`` the prior of η, mean a/(a + b), worth a + b judgements.
    Raises ValueError for judgements that compare nothing (ratings).
    """
    if not judgements.paired:
        raise ValueError("crowd_bt needs comparisons of two; ratings have no sides.")
    said = judgements.sides().said()
    rows = _rows(said, sharpness)
    start = np.concatenate(
        [np.zeros(rows.answers), np.full(rows.raters, np.log(beta[0] / beta[1]))]
    )
    found = minimize(
        _objective,
        start,
        args=(rows, beta),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": steps, "ftol": 1e-12, "gtol": 1e-6},
    )
    score, eta = found.x[: rows.answers], expit(found.x[rows.answers :])
    curve, info = _curvature(rows, score, eta, beta)
    variance = _variances(rows, curve, said.answers)
    labels = _labels(said, score * sharpness, variance[0] * sharpness**2)
    return CrowdBT(labels, score, np.sqrt(variance[1]), eta, 1 / np.sqrt(info))


def _rows(said: Judgements, sharpness: float) -> _Rows:
    """One row for each choice; a tie is two rows of half the weight."""
    a, b = said.answers[said.item].T
    tie = said.value == 0
    wins, loses = np.where(said.value >= 0, a, b), np.where(said.value >= 0, b, a)
    return _Rows(
        winner=np.concatenate([wins, loses[tie]]),
        loser=np.concatenate([loses, wins[tie]]),
        rater=np.concatenate([said.rater, said.rater[tie]]),
        weight=np.concatenate([np.where(tie, 0.5, 1.0), np.full(int(tie.sum()), 0.5)]),
        answers=int(said.answers.max(initial=-1)) + 1,
        raters=said.raters,
        sharpness=sharpness,
    )


def _objective(theta: Floats, rows: _Rows, beta: tuple[float, float]) -> tuple[float, Floats]:
    """Minus the log posterior in nats, and its gradient in scores and logit η.

    The Beta prior is of η itself, so that the mode with no data is (a − 1)/(a + b − 2).
    """
    score, eta = theta[: rows.answers], expit(theta[rows.answers :])
    p = rows.p(score)
    said = eta[rows.rater]
    chance = said * p + (1 - said) * (1 - p)
    more, less = beta[0] - 1, beta[1] - 1
    eta_in = np.clip(eta, 1e-12, 1 - 1e-12)
    value = -(rows.weight * np.log(chance)).sum() + (score**2).sum() / 2
    value -= (more * np.log(eta_in) + less * np.log1p(-eta_in)).sum()
    pull = rows.weight * rows.sharpness * (2 * said - 1) * p * (1 - p) / chance
    of_score = score - np.bincount(rows.winner, pull, rows.answers)
    of_score += np.bincount(rows.loser, pull, rows.answers)
    trust = np.bincount(rows.rater, rows.weight * (2 * p - 1) / chance, rows.raters)
    of_eta = -trust * eta * (1 - eta) - more * (1 - eta) + less * eta
    return float(value), np.concatenate([of_score, of_eta])


def _curvature(
    rows: _Rows, score: Floats, eta: Floats, beta: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Expected information: of s_winner − s_loser for each row, and of η for each rater."""
    p = rows.p(score)
    chance = eta[rows.rater] * p + (1 - eta[rows.rater]) * (1 - p)
    noise = np.maximum(chance * (1 - chance), 1e-12)
    slope = rows.sharpness * (2 * eta[rows.rater] - 1) * p * (1 - p)
    curve = rows.weight * slope**2 / noise
    inside = np.clip(eta, 1e-6, 1 - 1e-6)
    info = np.bincount(rows.rater, rows.weight * (2 * p - 1) ** 2 / noise, rows.raters)
    return curve, info + (beta[0] + beta[1] - 2) / (inside * (1 - inside))


def _variances(rows: _Rows, curve: Floats, answers: Ints) -> tuple[Floats, Floats]:
    """Var(s_a − s_b) for each item [I], and Var(s) for each answer [A].

    The information is the identity (the prior) plus a weighted graph's Laplacian, which falls apart
    into the graph's components; components of one size are inverted together.
    """
    ends = (np.concatenate([rows.winner, rows.loser]), np.concatenate([rows.loser, rows.winner]))
    graph = csr_matrix((np.tile(curve, 2), ends), shape=(rows.answers, rows.answers))
    _, part = connected_components(graph, directed=False)
    size = np.bincount(part)[part]
    own = 1 / (1 + np.asarray(graph.sum(1)).ravel())
    gap = own[answers].sum(1)
    order = np.argsort(part, kind="stable")
    for k in np.unique(size[size <= DENSE]):
        members = order[size[order] == k].reshape(-1, k)
        step = max(1, (1 << 22) // (k * k))
        for start in range(0, len(members), step):
            _invert(graph, members[start : start + step], own, gap, answers)
    return gap, own


def _invert(graph: csr_matrix, members: Ints, own: Floats, gap: Floats, answers: Ints) -> None:
    """Write the variances of components [n, k] of answers into ``own`` and ``gap``."""
    n, k = members.shape
    place = np.full(len(own), -1)
    place[members] = np.arange(n * k).reshape(n, k)
    flat = graph[members.ravel()].tocoo()
    dense = np.zeros((n, k, k))
    row, column = flat.row, place[flat.col]
    dense[row // k, row % k, column % k] = -flat.data
    dense[:, range(k), range(k)] += 1 - dense.sum(2)
    covariance = np.linalg.inv(dense)
    own[members] = np.diagonal(covariance, axis1=1, axis2=2)
    a, b = place[answers].T
    inside = np.flatnonzero((a >= 0) & (b >= 0))
    a, b = a[inside], b[inside]
    same = a // k == b // k
    across = np.where(same, covariance[a // k, a % k, b % k], 0.0)
    gap[inside] = own[answers[inside]].sum(1) - 2 * across


def _labels(said: Judgements, score: Floats, variance: Floats) -> Labels:
    a, b = said.answers.T
    judged = np.bincount(said.item, minlength=said.items)
    gap, reach = score[a] - score[b], 1.96 * np.sqrt(variance)
    blank = np.where(judged > 0, 1.0, np.nan)
    p = expit(gap)
    posterior = np.stack([1 - p, np.zeros_like(p), p], axis=1) * blank[:, None]
    low, high = expit(np.abs(gap) - reach) * blank, expit(np.abs(gap) + reach) * blank
    classes = np.array([-1.0, 0.0, 1.0])
    return Labels(classes, posterior, likeliest(posterior), low, high, judged)
