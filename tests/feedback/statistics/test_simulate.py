"""Simulated raters: that their habits are what they are said to be."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from backflip.feedback.statistics.simulate import (
    Asked,
    Items,
    Population,
    answers,
    assign,
    expected_accuracy,
    sharpness,
    simulate,
    uniform,
)

MANY = 20_000


def _one(**habits):
    """One rater; ½ and 0 for what is not said."""
    people = Population.uniform(1, reliability=habits.pop("reliability", 0.8))
    return replace(people, **{k: np.full(1, v) for k, v in habits.items()})


def _alike(items=MANY, **features):
    """Pairs of equally good answers."""
    made = Items.drawn(items)
    shown = {"length": np.zeros(items), "lists": np.zeros(items)} | features
    return replace(made, margin=np.zeros(items), features=shown)


def _asked(items, *, first=1.0, hours=0.0, rater=0, times=0):
    n = len(items)
    return Asked(
        np.arange(n), np.full(n, rater), np.full(n, first), np.full(n, hours), np.full(n, times)
    )


@pytest.mark.parametrize("reliability", [0.2, 0.5, 0.7, 0.9, 0.97])
def test_reliability_is_the_share_of_items_on_which_a_rater_agrees_with_gold(reliability):
    people, items = _one(reliability=reliability), Items.drawn(MANY, seed=1)
    hit = answers(people, items, _asked(items)) == items.gold
    assert hit.mean() == pytest.approx(reliability, abs=0.012)
    assert expected_accuracy(people, items)[0] == pytest.approx(reliability, abs=0.012)


def test_sharpness_is_odd_about_a_coin():
    assert sharpness(0.5) == pytest.approx(0, abs=1e-9)
    assert sharpness(0.2) == -sharpness(0.8)
    assert sharpness(0.8) < sharpness(0.9)


@pytest.mark.parametrize("chance", [0.3, 0.5, 0.8])
def test_biases_are_the_chances_between_equally_good_answers(chance):
    items = _alike()
    for first in (1.0, -1.0):
        said = answers(_one(prefers_first=chance), items, _asked(items, first=first))
        assert (said == first).mean() == pytest.approx(chance, abs=0.012)
    sign = np.where(np.arange(MANY) % 2, 1.0, -1.0)
    longer = _alike(length=300 * sign)  # all differences are the r.m.s.
    said = answers(_one(prefers_longer=chance), longer, _asked(longer))
    assert (said == sign).mean() == pytest.approx(chance, abs=0.012)
    lists = _alike(lists=3 * sign)
    said = answers(_one(prefers_lists=chance), lists, _asked(lists))
    assert (said == sign).mean() == pytest.approx(chance, abs=0.012)


def test_ties_are_the_chance_between_equals_and_rarer_where_one_is_better():
    people, items = _one(ties=0.3), _alike()
    assert (answers(people, items, _asked(items)) == 0).mean() == pytest.approx(0.3, abs=0.012)
    apart = replace(items, margin=np.full(MANY, 2.0))
    assert (answers(people, apart, _asked(apart)) == 0).mean() < 0.1


def test_ties_do_not_change_which_side_is_chosen():
    """Davidson's ties leave the odds between a and b alone."""
    items = Items.drawn(MANY, seed=2)
    said = answers(_one(ties=0.4), items, _asked(items))
    decided = said != 0
    u = sharpness(0.8) * items.margin[decided]
    near = np.abs(u) < 1
    share = (said[decided] == items.gold[decided])[near].mean()
    assert share == pytest.approx((1 / (1 + np.exp(-np.abs(u[near])))).mean(), abs=0.02)


def test_tired_raters_are_right_less_often():
    people, items = _one(fatigue=0.5, reliability=0.9), Items.drawn(MANY, seed=3)
    fresh = answers(people, items, _asked(items)) == items.gold
    tired = answers(people, items, _asked(items, hours=2.0)) == items.gold
    assert tired.mean() < fresh.mean() - 0.03


def test_strengths_grow_with_the_margin_and_fill_their_levels():
    people, items = _one(), Items.drawn(MANY, seed=4)
    said = answers(people, items, _asked(items), levels=4)
    assert set(np.unique(np.abs(said))) == {0.25, 0.5, 0.75, 1.0}
    far = np.abs(items.margin) > 1.5
    assert np.abs(said[far]).mean() > np.abs(said[~far]).mean() + 0.2
    np.testing.assert_array_equal(np.sign(said), answers(people, items, _asked(items)))


def test_an_answer_depends_on_seed_rater_item_and_time_asked_alone():
    """Whatever else is asked, and in whatever order: so a server may hand out items as it likes."""
    people, items = Population.drawn(5, seed=7), Items.drawn(50, seed=7)
    every = Asked(
        np.tile(np.arange(50), 5),
        np.repeat(np.arange(5), 50),
        np.ones(250),
        np.zeros(250),
        np.zeros(250, int),
    )
    together = answers(people, items, every, levels=3)
    for n in (0, 77, 249):
        alone = Asked(
            *(getattr(every, f)[n : n + 1] for f in ("item", "rater", "first", "hours", "times"))
        )
        assert answers(people, items, alone, levels=3)[0] == together[n]
    again = answers(people, items, replace(every, times=every.times + 1), levels=3)
    assert (again != together).any()
    other = answers(replace(people, seed=8), items, every, levels=3)
    assert (other != together).any()


def test_hashed_numbers_are_uniform_and_do_not_hang_together():
    one, two = uniform(0, 1, np.arange(MANY)), uniform(0, 2, np.arange(MANY))
    assert kstest(one, "uniform").pvalue > 0.01
    assert kstest((one - two) % 1, "uniform").pvalue > 0.01
    assert kstest((one[1:] - one[:-1]) % 1, "uniform").pvalue > 0.01
    assert uniform(0, 1, 5) == one[5]
    assert 0 < one.min() < one.max() < 1
    assert uniform(0, -3) != uniform(0, 3)


@pytest.mark.parametrize(
    ("items", "raters", "each"), [(600, 20, 5), (101, 7, 3), (10, 4, 4), (50, 9, 1)]
)
def test_work_is_shared_out_evenly_and_nobody_gets_an_item_twice(items, raters, each):
    dealt = assign(items, raters, each, np.random.default_rng(0))
    assert dealt.shape == (items, each)
    assert all(len(set(row)) == each for row in dealt.tolist())
    load = np.bincount(dealt.ravel(), minlength=raters)
    assert load.max() - load.min() <= 1


def test_more_raters_an_item_than_there_are_is_refused():
    with pytest.raises(ValueError, match="there are 2 raters"):
        assign(5, 2, 3, np.random.default_rng(0))


def test_everybody_meets_everybody():
    """Raters who never share an item could not be compared."""
    dealt = assign(400, 12, 3, np.random.default_rng(1))
    met = {frozenset((a, b)) for row in dealt.tolist() for a in row for b in row if a != b}
    assert len(met) == 12 * 11 / 2


def test_a_project_has_gold_repeats_groups_and_sides_as_asked_for():
    people = Population.drawn(10, seed=1, dissenting=0.3)
    said = simulate(
        people, Items.drawn(2000, seed=1), raters_per_item=3, gold_share=0.1, repeat_share=0.05
    )
    assert (~np.isnan(said.gold)).mean() == pytest.approx(0.1, abs=0.03)
    assert said.repeat.mean() == pytest.approx(0.05 / 1.05, abs=0.01)
    assert said.first.mean() == pytest.approx(0, abs=0.05)
    assert sum(g["region"] == "south" for g in said.groups) == 3
    assert (said.seconds > 0).all()
    np.testing.assert_array_equal(
        said.value,
        simulate(
            people, Items.drawn(2000, seed=1), raters_per_item=3, gold_share=0.1, repeat_share=0.05
        ).value,
    )


def test_those_who_dissent_want_the_opposite_on_contested_items_only():
    people = replace(Population.uniform(2, reliability=0.97), dissents=np.array([False, True]))
    items = replace(Items.drawn(MANY, seed=5), contested=np.arange(MANY) < MANY // 2)
    agree = answers(people, items, _asked(items)) == answers(people, items, _asked(items, rater=1))
    assert agree[: MANY // 2].mean() < 0.1
    assert agree[MANY // 2 :].mean() > 0.9
