"""pass@k and maj@k by enumeration of all draws, so that every number is exact."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations, product
from math import comb

import pytest
import torch

from backflip.functional.pass_at_k import majority, majority_at_k, pass_at_k


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_pass_at_k_is_the_mean_over_all_draws(k):
    for right in range(6):
        hits = [1] * right + [0] * (5 - right)
        draws = list(combinations(hits, k))
        exact = sum(any(draw) for draw in draws) / len(draws)
        assert float(pass_at_k(5, right, k)) == pytest.approx(exact)


def test_pass_at_k_is_unbiased_where_the_plug_in_estimate_is_not():
    """Over all outcomes of 4 tries at p = 0.3 its mean is 1 − 0.7²; 1 − (1 − c/n)² falls short."""
    p, told, plugged = 0.3, 0.0, 0.0
    for hits in product([0, 1], repeat=4):
        chance, c = p ** sum(hits) * (1 - p) ** (4 - sum(hits)), sum(hits)
        told += chance * float(pass_at_k(4, c, 2))
        plugged += chance * (1 - (1 - c / 4) ** 2)
    assert told == pytest.approx(1 - 0.7**2)
    assert plugged < told - 0.01


def test_pass_at_k_takes_many_questions_and_many_answers():
    many = pass_at_k(torch.tensor([2000, 2000, 10]), torch.tensor([1, 0, 10]), 10)
    torch.testing.assert_close(many, torch.tensor([10 / 2000, 0.0, 1.0], dtype=torch.float64))
    assert float(pass_at_k(200, 3, 50)) == pytest.approx(1 - comb(197, 50) / comb(200, 50))


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="pass@3 cannot be told from 2"):
        pass_at_k(torch.tensor([4, 2]), torch.tensor([1, 1]), 3)
    with pytest.raises(ValueError, match="more right answers than answers"):
        pass_at_k(2, 3, 1)
    with pytest.raises(ValueError, match="maj@4 cannot be told from 3"):
        majority_at_k("aab", [1, 1, 0], 4)
    with pytest.raises(ValueError, match="both right and wrong"):
        majority_at_k("aab", [1, 0, 0], 2)


def enumerated(answers, right, k):
    """The mean over all draws of k of the mean value of those with the most votes."""
    worth, found = dict(zip(answers, right, strict=True)), []
    for draw in combinations(answers, k):
        votes = Counter(answer for answer in draw if answer is not None)
        top = [a for a, n in votes.items() if n == max(votes.values())]
        found.append(sum(worth[a] for a in top) / len(top) if top else 0.0)
    return sum(found) / len(found)


def test_maj_at_k_is_the_mean_over_all_draws():
    """Ties, several right answers, answers that nobody could read: seven of each make."""
    rng = random.Random(0)
    for _ in range(20):
        answers = [rng.choice(["a", "b", "c", "d", None]) for _ in range(7)]
        values = {"a": 1.0, "b": 0.0, "c": rng.choice([0.0, 1.0]), "d": 0.0, None: 0.0}
        right = [values[a] for a in answers]
        for k in (1, 2, 3, 5, 7):
            assert majority_at_k(answers, right, k) == pytest.approx(enumerated(answers, right, k))


def test_one_try_has_no_majority_to_gain_from():
    """maj@1 = pass@1; with all answers it is the vote itself."""
    answers, right = list("aaabbcc"), [0, 0, 0, 1, 1, 0, 0]
    assert majority_at_k(answers, right, 1) == pytest.approx(float(pass_at_k(7, 2, 1)))
    assert majority_at_k(answers, right, 7) == 0.0


def test_a_vote_by_weights():
    assert majority(["a", "b", "b", None]) == {"b": 1.0}
    assert majority(["a", "b", "b"], [0.9, 0.2, 0.3]) == {"a": 1.0}
    assert majority(["a", "b", None]) == {"a": 0.5, "b": 0.5}
    assert majority([None]) == {}
