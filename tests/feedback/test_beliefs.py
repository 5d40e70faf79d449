"""A small model's posterior, and the information in a question: against sklearn and enumeration."""

from itertools import combinations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from backflip.feedback.choose.beliefs import (
    expected_information,
    fit_linear,
    informative,
)
from backflip.feedback.choose.queries import entropy


def _asked(n=300, d=5, seed=0, size=2.0):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=d)
    w *= size / np.linalg.norm(w)
    x = rng.normal(size=(n, d))
    return w, x, (rng.random(n) < expit(x @ w)).astype(float)


def test_the_mode_is_that_of_ridge_logistic_regression():
    _, x, said = _asked()
    theirs = LogisticRegression(C=0.7**2, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(x, said)
    np.testing.assert_allclose(fit_linear(x, said, scale=0.7).mean, theirs.coef_[0], atol=1e-5)


def test_three_votes_of_one_item_are_three_items():
    _, x, said = _asked(60)
    share, votes = (said + 2 * said[::-1]) / 3, np.full(60, 3.0)
    apart = fit_linear(
        np.repeat(x, 3, 0), np.stack([said, said[::-1], said[::-1]], 1).ravel(), scale=1.0
    )
    np.testing.assert_allclose(fit_linear(x, share, votes, scale=1.0).mean, apart.mean, atol=1e-6)


def test_which_answer_is_called_a_makes_no_difference():
    _, x, said = _asked()
    turned = fit_linear(-x, 1 - said)
    np.testing.assert_allclose(turned.mean, fit_linear(x, said).mean, atol=1e-8)


def test_the_covariance_is_the_inverse_curvature():
    """By finite differences of the written log posterior."""
    _, x, said = _asked(80, 3)
    found = fit_linear(x, said, scale=1.5)

    def loss(w):
        return (np.logaddexp(0, x @ w) - said * (x @ w)).sum() + w @ w / (2 * 1.5**2)

    step, e = 1e-3, np.eye(3)
    curve = np.array(
        [
            [
                (
                    loss(found.mean + step * (a + b))
                    - loss(found.mean + step * (a - b))
                    - loss(found.mean - step * (a - b))
                    + loss(found.mean - step * (a + b))
                )
                / (4 * step**2)
                for b in e
            ]
            for a in e
        ]
    )
    np.testing.assert_allclose(np.linalg.inv(curve), found.covariance, rtol=1e-3)


@pytest.mark.parametrize("size", [0.3, 8.0])
def test_the_evidence_finds_the_scale_of_the_weights(size):
    w, x, said = _asked(2000, 6, size=size)
    assert fit_linear(x, said).scale == pytest.approx(np.sqrt((w**2).mean()), rel=2)


def test_doubt_about_the_weights_draws_predictions_to_a_half():
    _, x, said = _asked(20)
    found = fit_linear(x, said, scale=3.0)
    mean, variance = found.log_odds(x)
    assert (np.abs(found.p(x) - 0.5) <= np.abs(expit(mean) - 0.5) + 1e-12).all()
    far = 30 * x[:1]
    assert found.log_odds(far)[1] == pytest.approx(900 * variance[0])


def test_draws_have_the_posteriors_mean_and_spread():
    _, x, said = _asked(100)
    found = fit_linear(x, said)
    mean, variance = found.log_odds(x[:7])
    drawn = found.draws(x[:7], 20_000, seed=1)
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.06)


def test_information_is_what_the_answer_takes_off_the_entropy_of_the_weights():
    """Enumerated: w has one dimension, on a fine grid; H(w) before minus H(w) after, averaged."""
    grid = np.linspace(-8, 8, 4001)
    mean, variance, noise = 0.7, 1.3, 0.1
    prior = np.exp(-((grid - mean) ** 2) / (2 * variance))
    prior /= prior.sum()
    likely = (1 - noise) * expit(grid) + noise / 2

    def surprise(mass):
        return -(mass[mass > 0] * np.log(mass[mass > 0])).sum()

    p = (prior * likely).sum()
    after = p * surprise(prior * likely / p) + (1 - p) * surprise(prior * (1 - likely) / (1 - p))
    found = expected_information(np.array([mean]), np.array([variance]), noise=noise)
    assert found[0] == pytest.approx(surprise(prior) - after, abs=1e-5)
    assert expected_information(np.zeros(1), np.zeros(1))[0] == 0
    assert (entropy(np.array([0.0, 1.0])) == 0).all()


def test_greedy_information_does_not_ask_the_same_twice():
    """Two directions are open; a copy of the best pair is worth less than the other direction."""
    _, x, said = _asked(30, 4)
    x[:, 2:] = 0  # nothing is known of these two
    found = fit_linear(x, said, scale=2.0)
    pool = np.array([[0, 0, 1.0, 0], [0, 0, 0.99, 0], [0, 0, 0, 0.8], [0.1, 0, 0, 0]])
    assert informative(found, pool, 2).tolist() == [0, 2]
    assert sorted(informative(found, pool, 9).tolist()) == [0, 1, 2, 3]
    assert informative(found, pool, 2, allowed=np.array([False, True, True, True])).tolist() == [
        1,
        2,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_greedy_set_is_nearly_the_best_there_is(seed):
    """Against all sets of 3: the log determinant by which the posterior shrinks, at p = ½."""
    rng = np.random.default_rng(seed)
    _, x, said = _asked(15, 4, seed=seed, size=0.01)
    found = fit_linear(x, said, scale=1.0)
    pool = rng.normal(size=(12, 4)) * 0.5
    prior = np.linalg.inv(found.covariance)

    def worth(chosen):
        p = expit(pool[list(chosen)] @ found.mean)
        rows = pool[list(chosen)] * np.sqrt(p * (1 - p))[:, None]
        return np.linalg.slogdet(prior + rows.T @ rows)[1] - np.linalg.slogdet(prior)[1]

    best = max(worth(c) for c in combinations(range(12), 3))
    assert worth(informative(found, pool, 3)) >= 0.9 * best
