"""Votes: shares, ties, weights, error bars."""

import numpy as np
import pytest

from backflip.feedback.statistics.aggregate import (
    log_odds,
    majority,
    right,
    weighted,
    wilson_bounds,
)
from backflip.feedback.statistics.judgements import Judgements
from backflip.functional.statistics import wilson


def test_the_majority_is_the_greatest_share_and_a_split_is_undecided():
    said = Judgements.of(
        [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 0, 1, 2], [1, 1, -0.5, 1, -1, 0, 0, 1]
    )
    found = majority(said)
    assert found.value[[0, 2]].tolist() == [1, 0]
    assert found.label[1] == -1
    assert found.posterior[0] == pytest.approx([1 / 3, 0, 2 / 3])
    assert found.p_first == pytest.approx([2 / 3, 1 / 2, 2 / 3])
    by_hand = wilson(2, 3)
    assert (found.low[0], found.high[0]) == pytest.approx((by_hand.low, by_hand.high))


def test_items_that_nobody_judged_have_no_label():
    found = majority(Judgements.of([0], [0], [1.0], item_names=["x", "y"]))
    assert found.label.tolist() == [2, -1]
    assert np.isnan(found.value[1])
    assert np.isnan(found.posterior[1]).all()


def test_one_good_rater_outweighs_two_bad_ones():
    said = Judgements.of([0, 0, 0], [0, 1, 2], [1, -1, -1])
    assert majority(said).value[0] == -1
    assert weighted(said, log_odds(np.array([0.95, 0.6, 0.6]))).value[0] == 1


def test_equal_weights_are_the_majority():
    rng = np.random.default_rng(0)
    said = Judgements.of(
        rng.integers(0, 50, 400), rng.integers(0, 9, 400), rng.choice([-1, 0, 1], 400)
    )
    one, two = majority(said), weighted(said, np.full(9, 0.7))
    np.testing.assert_array_equal(one.label, two.label)
    np.testing.assert_allclose(one.low, two.low)


def test_log_odds_are_the_best_weights():
    """Enumerate three raters (Nitzan and Paroush): no other weighting decides right more often."""
    p = np.array([0.9, 0.75, 0.6])

    def chance(weights):
        total = 0.0
        for pattern in range(8):
            hit = np.array([pattern >> k & 1 for k in range(3)])
            probability = np.prod(np.where(hit, p, 1 - p))
            total += probability * (weights @ (2 * hit - 1) > 0)
        return total

    best = max(
        chance(np.array([a, b, c])) for a in range(1, 8) for b in range(1, 8) for c in range(1, 8)
    )
    assert chance(log_odds(p)) == pytest.approx(best)


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        weighted(Judgements.of([0], [0], [1.0]), np.array([-1.0]))


def test_right_gives_half_for_ties_and_undecided():
    said = Judgements.of([0, 1, 2, 2], [0, 0, 0, 1], [1, 0, 1, -1])
    gold = np.array([1.0, -1.0, 1.0])
    assert right(majority(said), gold).tolist() == [1, 0.5, 0.5]


def test_many_wilson_intervals_are_one_at_a_time():
    low, high = wilson_bounds(np.array([0.0, 0.3, 1.0]), np.array([5.0, 10.0, 7.0]))
    for k, (s, n) in enumerate([(0, 5), (3, 10), (7, 7)]):
        one = wilson(s, n)
        assert (low[k], high[k]) == pytest.approx((one.low, one.high))
