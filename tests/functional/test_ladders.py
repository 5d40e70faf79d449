"""Ladders by hand, by closed forms, and against what the plain iteration of the field finds."""

from __future__ import annotations

import numpy as np
import pytest

from backflip.functional import ladders
from backflip.functional.ladders import Votes


def votes(rows, models, prompts=None):
    """(first, second, score) of each vote; every vote of its own prompt unless said."""
    first, second, score = (np.array(part) for part in zip(*rows, strict=True))
    cluster = np.arange(len(rows)) if prompts is None else np.array(prompts)
    return Votes(first, second, score.astype(float), cluster, models)


def simulated(theta, *, games, seed, prompts=40):
    """Votes by the model of Bradley and Terry."""
    rng = np.random.default_rng(seed)
    pairs = np.array([rng.choice(len(theta), 2, replace=False) for _ in range(games)])
    p = 1 / (1 + np.exp(theta[pairs[:, 1]] - theta[pairs[:, 0]]))
    score = (rng.random(games) < p).astype(float)
    return Votes(pairs[:, 0], pairs[:, 1], score, rng.integers(prompts, size=games), len(theta))


def test_two_models_have_the_log_odds_of_their_wins_a_tie_counting_half():
    said = votes([(0, 1, 1.0)] * 6 + [(1, 0, 1.0)] * 2 + [(0, 1, 0.5)] * 2, 2)
    theta = ladders.bradley_terry(said.wins())
    assert theta[0] - theta[1] == pytest.approx(np.log(7 / 3))
    np.testing.assert_allclose(ladders.shares(theta), [0.7, 0.3])


def test_strengths_are_the_fixed_point_of_the_plain_iteration():
    """Zermelo's (1929): p_i = wins of i / Σ_j games_ij / (p_i + p_j)."""
    wins = simulated(np.linspace(-1, 1, 7), games=300, seed=0).wins()
    p, met = np.ones(7), wins + wins.T
    for _ in range(5000):
        p = wins.sum(1) / (met / (p[:, None] + p)).sum(1)
        p /= p.sum()
    np.testing.assert_allclose(ladders.shares(ladders.bradley_terry(wins)), p, atol=1e-10)


def test_many_ladders_at_once_are_those_of_each_alone():
    many = np.stack([simulated(np.zeros(4), games=60, seed=s).wins() for s in range(3)])
    alone = [ladders.bradley_terry(one) for one in many]
    np.testing.assert_allclose(ladders.bradley_terry(many), alone, atol=1e-9)


def test_a_model_that_never_lost_has_no_finite_strength_and_gets_one_by_the_prior():
    said = votes([(0, 1, 1.0)] * 3 + [(1, 2, 1.0), (2, 1, 1.0)], 3).wins()
    assert not ladders.bounded(said)
    with pytest.raises(ValueError, match="no finite strengths"):
        ladders.bradley_terry(said)
    theta = ladders.bradley_terry(ladders.lent(said))
    assert np.isfinite(theta).all()
    assert theta.argmax() == 0


def test_models_that_never_met_are_of_different_groups():
    said = votes([(0, 1, 1.0), (1, 0, 1.0), (2, 3, 0.5)], 4).wins()
    assert ladders.components(said).tolist() == [0, 0, 1, 1]


def test_intervals_cover_and_grow_when_votes_hang_together():
    """The same votes, each four times, as one prompt: no more is known than from one of them."""
    theta = np.array([0.5, 0.0, -0.5])
    once = simulated(theta, games=200, seed=1, prompts=200)
    rows = np.tile(np.arange(200), 4)
    taken = (once.first[rows], once.second[rows], once.score[rows])
    apart = Votes(*taken, np.arange(800), 3)
    together = Votes(*taken, once.cluster[rows], 3)
    spread = [ladders.resampled(v, draws=300)[0].std(0).mean() for v in (once, together, apart)]
    assert spread[1] == pytest.approx(spread[0], rel=0.1)
    assert spread[2] < 0.7 * spread[0]


def test_elo_by_hand():
    """1000 against 1000: the winner gains half of k; then 10 to the power of the difference."""
    first, second = np.array([[0, 1]]), np.array([[1, 0]])
    rating = ladders.elo(first, second, np.array([[1.0, 1.0]]), models=2, k=32.0)[0]
    expected = 1 / (1 + 10 ** ((1016 - 984) / 400))
    assert rating[1] == pytest.approx(984 + 32 * (1 - expected))
    assert rating.sum() == pytest.approx(2000)


def test_shuffled_elo_agrees_with_bradley_and_terry_where_votes_are_many():
    said = simulated(np.array([1.0, 0.0, -1.0]), games=6000, seed=2)
    rating = ladders.elo_shuffled(said, orders=50).mean(0)
    theta = ladders.bradley_terry(said.wins())
    np.testing.assert_allclose(rating - 1000, theta * 400 / np.log(10), atol=8)


def test_a_ladder_is_seldom_called_circular():
    """Of 60 sets of votes from a ladder, at 5 %, 3 are expected; 8 or more has p < 0.01."""
    theta = np.linspace(-1, 1, 5)
    sets = [simulated(theta, games=400, seed=s) for s in range(60)]
    fits = [ladders.bradley_terry(one.wins()) for one in sets]
    p = [
        ladders.transitivity(one, fit, draws=300).p_value
        for one, fit in zip(sets, fits, strict=True)
    ]
    assert sum(value <= 0.05 for value in p) < 8
    assert 0.3 < np.mean(p) < 0.7


def test_a_planted_circle_is_found_and_named():
    """Rock, paper and scissors, each beating the next in 8 of 10, and a fourth that loses."""
    ring = [(0, 1), (1, 2), (2, 0)]
    rows = [(a, b, float(n % 10 < 8)) for a, b in ring for n in range(40)]
    rows += [(a, 3, float(n % 10 < 7)) for a in range(3) for n in range(20)]
    said = votes(rows, 4)
    theta = ladders.bradley_terry(said.wins())
    np.testing.assert_allclose(theta[:3], theta[0], atol=1e-8)
    assert ladders.transitivity(said, theta).p_value < 0.01
    found, number, triples = ladders.circles(said.wins())
    assert (number, triples) == (1, 4)
    assert found[0].models == (0, 1, 2)
    assert found[0].shares == (0.8, 0.8, 0.8)


def test_without_a_loop_nothing_is_tested():
    said = votes([(0, 1, 1.0), (1, 0, 1.0), (1, 2, 0.5)], 3)
    found = ladders.transitivity(said, ladders.bradley_terry(said.wins()))
    assert (found.loops, found.draws, found.p_value) == (0, 0, 1.0)
