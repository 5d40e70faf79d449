"""What to ask next: worth by hand, batches without copies, a random arm that stays random."""

import numpy as np
import pytest
from scipy.special import logit

from backflip.feedback.choose.queries import (
    best_against_worst,
    disagreement,
    entropy,
    information,
    k_centre,
    once,
    spread,
    top,
    uncertainty,
    votes_as_evidence,
    with_random_arm,
)
from backflip.feedback.statistics.simulate import uniform

SURE, SPLIT, UNSURE = 0, 1, 2
P = np.array([[0.9, 0.9, 0.5], [0.9, 0.1, 0.5]])
"""Two members on three pairs: both sure, split, both at a loss."""


def test_disagreement_is_the_variance_of_the_predicted_preference():
    np.testing.assert_allclose(disagreement(logit(P)), [0, 0.16, 0], atol=1e-12)


def test_information_tells_being_split_from_being_at_a_loss():
    """By hand: the mean of the split pair is ½, and each member's own entropy is H(0.9)."""
    found = information(logit(P))
    by_hand = np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1)
    np.testing.assert_allclose(found, [0, by_hand, 0], atol=1e-12)
    assert uncertainty(logit(P)).argmin() == SURE
    np.testing.assert_allclose(uncertainty(logit(P))[[SPLIT, UNSURE]], np.log(2))


def test_coin_tossing_raters_tell_nothing():
    np.testing.assert_allclose(information(logit(P), noise=1.0), 0, atol=1e-12)
    assert (information(logit(P), noise=0.5)[SPLIT] < information(logit(P))[SPLIT]).all()


def test_best_against_worst_asks_for_the_widest_gap():
    logits = np.array([[2.0, -5.0, 0.1], [4.0, -3.0, -0.1]])
    np.testing.assert_allclose(best_against_worst(logits), [3, 4, 0])


def test_votes_move_the_posterior_as_bayes_says():
    """Prior ½; two raters, right with 0.8, say a: P(a) = 0.64/(0.64 + 0.04)."""
    evidence = votes_as_evidence(
        np.array([0, 0, 1, 1, 1]), np.array([1.0, 0.5, 1.0, -1.0, np.nan]), 0.8, items=3
    )
    found = uncertainty(np.zeros((4, 3)), evidence)
    np.testing.assert_allclose(found, [entropy(0.64 / 0.68), np.log(2), np.log(2)])


def test_never_a_pair_with_itself_nor_a_pair_twice():
    left, right = np.array([1, 2, 3, 1, 2**62, 4]), np.array([2, 1, 3, 2, 7, 5])
    assert once(left, right).tolist() == [True, False, False, False, True, True]
    assert once(left, right, known={(5, 4), (7, 2**62)}).tolist() == [True] + [False] * 5
    assert once(left[:0], right[:0]).tolist() == []


def test_top_leaves_out_what_is_not_allowed_or_not_known():
    score = np.array([3.0, np.nan, 5.0, 4.0])
    assert top(score, 9).tolist() == [2, 3, 0]
    assert top(score, 9, allowed=np.array([True, True, False, True])).tolist() == [3, 0]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_centres_reach_within_twice_the_best_radius(seed):
    """Gonzalez's bound, against all ways to choose 3 of 9 points."""
    from itertools import combinations

    x = np.random.default_rng(seed).normal(size=(9, 2))
    apart = np.linalg.norm(x[:, None] - x, axis=-1)
    best = min(apart[:, list(c)].min(1).max() for c in combinations(range(9), 3))
    assert apart[:, k_centre(x, 3)].min(1).max() <= 2 * best + 1e-9


def test_copies_are_not_chosen_and_what_was_asked_is_avoided():
    x = np.repeat(np.eye(3), 4, axis=0)
    assert len({tuple(row) for row in x[k_centre(x, 12)]}) == len(k_centre(x, 12)) == 3
    fresh = k_centre(x, 2, asked=np.eye(3)[:1])
    assert not x[fresh, 0].any()


def test_a_pair_the_other_way_round_is_the_same_question():
    """Differences of answers, x and −x: which answer is called a is arbitrary."""
    x = np.array([[1.0, 0], [-1, 0], [0, 0.9], [0, -0.9]])
    assert {*map(abs, x[k_centre(x, 4, odd=True)].ravel().tolist())} == {0.0, 0.9, 1.0}
    assert len(k_centre(x, 4, odd=True)) == 2
    assert k_centre(x, 1, asked=-x[:1], odd=True).tolist() == [2]
    assert spread(np.array([1.0, 0.99, 0.5, 0.4]), x, 2).tolist() == [0, 2]


def test_a_batch_takes_the_best_and_then_something_else():
    x = np.array([[0.0, 0], [0.01, 0], [0, 1], [5, 5]])
    score = np.array([1.0, 0.99, 0.5, 0.4])
    assert spread(score, x, 1).tolist() == [0]
    assert spread(score, x, 3).tolist() == [0, 3, 2]
    assert len(spread(score, x, 2, allowed=np.zeros(4, bool))) == 0


def test_the_random_arm_has_its_share_and_none_is_chosen_twice():
    draw = uniform(0, np.arange(1000))
    chosen = with_random_arm(np.arange(1000), draw, 100, 0.2)
    assert len(set(chosen.index.tolist())) == 100
    assert chosen.random.sum() == 20
    assert set(chosen.origins) == {"active", "random"}
    assert np.abs(chosen.random.cumsum() - 0.2 * np.arange(1, 101)).max() <= 1  # evenly
    assert (draw[chosen.index[chosen.random]] < 0.2).all()
    assert (draw[chosen.index[~chosen.random]] >= 0.2).all()


def test_the_random_arm_is_a_sample_of_everything_however_greedy_the_other_one_is():
    """The active arm takes the highest scores each round; the random arm's mean stays that of all.

    Drawn from what was left over, it would sink with every round.
    """
    n = 4000
    score = np.random.default_rng(1).normal(size=n)
    draw, left = uniform(3, np.arange(n)), np.ones(n, bool)
    by_chance = []
    for _ in range(8):
        there = np.flatnonzero(left)
        chosen = with_random_arm(top(score[there], n), draw[there], 400, 0.25)
        by_chance += there[chosen.index[chosen.random]].tolist()
        left[there[chosen.index]] = False
    assert len(by_chance) == 800
    assert score[by_chance].mean() == pytest.approx(score.mean(), abs=3 / np.sqrt(800))
    assert score[left & (draw >= 0.25)].mean() < -0.5


def test_where_one_arm_runs_dry_the_other_fills_up():
    draw = np.array([0.05, 0.5, 0.6, 0.7])
    assert with_random_arm(np.array([3, 2, 1]), draw, 4, 0.5).index.tolist() == [3, 2, 0, 1]
    nothing_known = with_random_arm(np.zeros(0, np.int64), np.full(9, 0.1), 5, 0.2)
    assert len(nothing_known.index) == 5
    assert nothing_known.random.all()
    with pytest.raises(ValueError, match="0 to 1"):
        with_random_arm(np.array([0]), draw, 1, 1.5)
