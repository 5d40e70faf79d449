"""How many raters and items: closed forms by enumeration, and the law against experiments."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from backflip.feedback.statistics.power import (
    Learner,
    dimensions_from_pilot,
    items_for_accuracy,
    majority_error,
    plans,
    reward_accuracy,
    simulated_accuracy,
)
from backflip.feedback.statistics.simulate import Population


@pytest.mark.parametrize("raters", [1, 2, 3, 4, 5])
def test_the_majoritys_error_is_enumerated(raters):
    wrong = 0.0
    for votes in product((0, 1), repeat=raters):
        p = np.prod([0.8 if v else 0.2 for v in votes])
        right = sum(votes)
        wrong += p * (1.0 if 2 * right < raters else 0.5 if 2 * right == raters else 0.0)
    assert majority_error(0.8, raters) == pytest.approx(wrong)


@pytest.mark.parametrize(
    ("reliability", "raters", "ceiling", "ties", "first"),
    [
        (0.95, 7, 0.65, 0.0, 0.5),
        (0.8, 1, 0.95, 0.0, 0.5),
        (0.7, 3, 0.9, 0.0, 0.5),
        (0.9, 1, 0.8, 0.2, 0.5),
        (0.75, 5, 0.85, 0.3, 0.7),
    ],
)
def test_the_law_is_what_experiments_find(reliability, raters, ceiling, ties, first):
    """Fitted to the same number of items, within 1.2 points."""
    people = Population.uniform(10, reliability=reliability)
    people = replace(people, ties=np.full(10, ties), prefers_first=np.full(10, first))
    learner = Learner(20, ceiling)
    for items in (400, 2000):
        runs = [
            simulated_accuracy(people, learner, items, raters_per_item=raters, seed=s)
            for s in range(8)
        ]
        law = reward_accuracy(people, learner, items, raters_per_item=raters)
        assert np.mean(runs) == pytest.approx(law, abs=0.012)


@pytest.mark.parametrize(("reliability", "raters"), [(0.7, 1), (0.7, 3), (0.85, 1), (0.85, 3)])
@pytest.mark.parametrize("wished", [0.65, 0.75])
def test_what_a_plan_promises_is_kept_with_few_items_to_a_direction(reliability, raters, wished):
    """The law for many items was 3 to 8 points too hopeful for a pilot's handful."""
    people, learner = Population.uniform(10, reliability=reliability), Learner(60, 0.9)
    items = items_for_accuracy(people, learner, wished, raters_per_item=raters)
    runs = [
        simulated_accuracy(people, learner, items, raters_per_item=raters, seed=s)
        for s in range(16)
    ]
    assert np.mean(runs) == pytest.approx(wished, abs=0.02)


def test_items_for_accuracy_is_the_inverse_and_nothing_reaches_beyond_the_ceiling():
    people, learner = Population.uniform(5, reliability=0.75), Learner(50, 0.85)
    items = items_for_accuracy(people, learner, 0.8)
    assert reward_accuracy(people, learner, items) >= 0.8
    assert reward_accuracy(people, learner, items - 1) < 0.8
    assert items_for_accuracy(people, learner, 0.85) is None
    assert items_for_accuracy(Population.uniform(5, reliability=0.5), learner, 0.8) is None
    assert reward_accuracy(people, learner, 10**12) == pytest.approx(0.85, abs=1e-4)


def test_a_pilot_gives_back_the_dimensions_it_was_run_with():
    people = Population.uniform(5, reliability=0.75)
    seen = reward_accuracy(people, Learner(64, 0.9), 800)
    assert dimensions_from_pilot(people, 0.9, seen, 800) == pytest.approx(64)
    with pytest.raises(ValueError, match="must lie between"):
        dimensions_from_pilot(people, 0.9, 0.95, 800)


def test_a_label_on_a_new_item_is_worth_more_than_one_on_an_old_item():
    people = Population.uniform(10, reliability=0.75)
    found = plans(people, Learner(100, 0.9), 0.8)
    assert [p.raters_per_item for p in found] == [1, 2, 3, 5, 7]
    assert [p.items for p in found] == sorted((p.items for p in found), reverse=True)
    assert all(p.accuracy >= 0.8 for p in found)
    assert found[0].label_error > found[-1].label_error
    assert plans(people, Learner(100, 0.9), 0.91) == []


def test_shared_tastes_cost_what_the_formula_does_not_know():
    fair = Population.uniform(10, reliability=0.8)
    tasteful = replace(fair, prefers_longer=np.full(10, 0.95))
    learner = Learner(10, 0.9)
    one, two = (
        np.mean([simulated_accuracy(p, learner, 2000, seed=s) for s in range(4)])
        for p in (fair, tasteful)
    )
    assert two < one - 0.01
