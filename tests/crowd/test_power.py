"""How many raters and items: closed forms by enumeration, and the law against experiments."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from backflip.crowd.agreement import agreement, alpha
from backflip.crowd.judgements import Judgements
from backflip.crowd.power import (
    Learner,
    alpha_of_mean,
    dimensions_from_pilot,
    expected_agreement,
    expected_alpha,
    items_for_accuracy,
    items_for_alpha,
    learning_curve,
    majority_error,
    plans,
    raters_for_alpha,
    raters_for_label_error,
    reliability_from_agreement,
    reward_accuracy,
    simulated_accuracy,
)
from backflip.crowd.simulate import Items, Population, simulate


@pytest.mark.parametrize("raters", [1, 2, 3, 4, 5])
def test_the_majoritys_error_is_enumerated(raters):
    wrong = 0.0
    for votes in product((0, 1), repeat=raters):
        p = np.prod([0.8 if v else 0.2 for v in votes])
        right = sum(votes)
        wrong += p * (1.0 if 2 * right < raters else 0.5 if 2 * right == raters else 0.0)
    assert majority_error(0.8, raters) == pytest.approx(wrong)


def test_the_fewest_raters_reach_the_error_and_one_fewer_do_not():
    raters = raters_for_label_error(0.7, 0.05)
    assert majority_error(0.7, raters) <= 0.05 < majority_error(0.7, raters - 2)
    assert raters_for_label_error(0.5, 0.1) is None


def test_agreement_and_alpha_are_what_simulated_raters_have():
    rng = np.random.default_rng(0)
    truth = rng.choice([-1.0, 1.0], 20_000)
    hit = rng.random((3, 20_000)) < 0.8
    said = Judgements.of(
        np.tile(np.arange(20_000), 3),
        np.repeat(np.arange(3), 20_000),
        np.where(hit, truth, -truth).ravel(),
    )
    found = agreement(said, resamples=10)
    assert found.percent.estimate == pytest.approx(expected_agreement(0.8), abs=0.01)
    assert found.alpha.estimate == pytest.approx(expected_alpha(0.8), abs=0.02)
    assert reliability_from_agreement(expected_agreement(0.8)) == pytest.approx(0.8)


def test_spearman_brown_and_its_inverse():
    assert alpha_of_mean(0.4, 1) == pytest.approx(0.4)
    raters = raters_for_alpha(0.4, 0.8)
    assert alpha_of_mean(0.4, raters) >= 0.8 > alpha_of_mean(0.4, raters - 1)
    assert raters_for_alpha(0.0, 0.8) is None


def test_items_for_alpha_give_the_wished_interval():
    people = Population.uniform(6, reliability=0.85)
    items = items_for_alpha(people, 0.05, raters_per_item=3)
    found = alpha(simulate(people, Items.drawn(items, seed=9), raters_per_item=3))
    assert (found.high - found.low) / 2 == pytest.approx(0.05, rel=0.2)


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


def test_curves_rise_with_items():
    people = Population.uniform(8, reliability=0.8)
    curve = learning_curve(people, Learner(20, 0.9), [100, 1000], seeds=4)
    assert [n for n, _ in curve] == [100, 1000]
    assert curve[0][1].high < curve[1][1].estimate
