"""Best of n by enumeration: every draw is made, so that every number is exact."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch

from backflip.functional.best_of_n import (
    best_of_n_chance,
    best_of_n_mean,
    kl_best_of_n_tied,
    win_probabilities,
)
from backflip.functional.statistics import kl_best_of_n

SCORES = torch.tensor([0.3, -1.0, 2.5, 0.3, 0.9], dtype=torch.float64)
VALUES = torch.tensor([7.0, 1.0, -2.0, 3.0, 5.0], dtype=torch.float64)


def enumerated(scores, values, n):
    """Mean over all subsets of n of the mean value of those of its members that score highest."""
    found = []
    for draw in combinations(range(len(scores)), n):
        top = max(scores[i] for i in draw)
        best = [float(values[i]) for i in draw if scores[i] == top]
        found.append(sum(best) / len(best))
    return sum(found) / len(found)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_estimate_is_the_mean_over_all_draws_of_n(n):
    """Two of the five tie: their values share what the lot gives them."""
    assert float(best_of_n_mean(SCORES, n=n)) == pytest.approx(enumerated(SCORES, SCORES, n))
    expected = enumerated(SCORES, VALUES, n)
    assert float(best_of_n_mean(SCORES, VALUES, n=n)) == pytest.approx(expected)


def test_the_chances_of_all_answers_add_up_to_one():
    chance = best_of_n_chance(SCORES[None], n=3)
    assert float(chance.sum()) == pytest.approx(1)
    assert chance[0, 0] == chance[0, 3]


def test_the_estimate_is_unbiased():
    """Over all ways to draw N = 3 from a policy of three answers, its mean is E[max of 2]."""
    policy, worth = [0.5, 0.3, 0.2], [0.0, 1.0, 3.0]
    mean = 0.0
    for draw in product(range(3), repeat=3):
        p = policy[draw[0]] * policy[draw[1]] * policy[draw[2]]
        scores = torch.tensor([worth[i] for i in draw])
        mean += p * float(best_of_n_mean(scores, n=2))
    exact = sum(policy[i] * policy[j] * max(worth[i], worth[j]) for i in range(3) for j in range(3))
    assert mean == pytest.approx(exact)


def test_more_than_was_drawn_cannot_be_told():
    with pytest.raises(ValueError, match="best of 6 cannot be told from 5"):
        best_of_n_mean(SCORES, n=6)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_tied_kl_is_that_of_the_enumerated_distribution(n):
    """Four answers on three levels; among equals the first drawn is taken, which is a lot."""
    policy, level = [0.4, 0.1, 0.2, 0.3], [0, 1, 1, 2]
    best = [0.0] * 4
    for draw in product(range(4), repeat=n):
        p = 1.0
        for i in draw:
            p *= policy[i]
        best[max(draw, key=lambda i: level[i])] += p
    exact = sum(q * torch.tensor(q / p).log().item() for q, p in zip(best, policy, strict=True))
    levels = torch.tensor([0.4, 0.3, 0.3])
    assert kl_best_of_n_tied(levels, n=n) == pytest.approx(exact, abs=1e-6)


def test_many_levels_come_near_to_the_formula_and_never_above_it():
    assert kl_best_of_n_tied(torch.ones(1), n=8) == 0
    for levels in (2, 10, 100_000):
        told = kl_best_of_n_tied(torch.full((levels,), 1 / levels), n=8)
        assert told <= kl_best_of_n(8) + 1e-9
    assert told == pytest.approx(kl_best_of_n(8), abs=1e-3)


def test_win_probabilities_are_means_over_all_samples():
    """Two samples ln 3 apart: the better beats the other with ¾ and itself with ½."""
    torch.testing.assert_close(
        win_probabilities(torch.tensor([1.0986123, 0.0])), torch.tensor([0.625, 0.375])
    )


def test_win_probabilities_of_a_prompt_average_one_half():
    wins = win_probabilities(SCORES)
    assert float(wins.mean()) == pytest.approx(0.5)
    assert wins.argmax() == SCORES.argmax()
