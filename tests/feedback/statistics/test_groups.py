"""Groups: who agrees with whom, what each prefers, and whom a majority erases."""

from dataclasses import replace

import numpy as np
import pytest

from backflip.feedback.statistics.groups import UNKNOWN, groups, membership
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.simulate import Items, Population, simulate


def _project(seed, *, dissenting, contested, reliability=0.9, raters=12, each=6, items=300):
    people = Population.uniform(raters, reliability=reliability, seed=seed)
    dissents = np.arange(raters) < round(dissenting * raters)
    shown = Items.drawn(items, seed=seed, contested=contested)
    return simulate(replace(people, dissents=dissents), shown, raters_per_item=each)


def test_agreement_within_and_between_by_hand():
    said = Judgements.of(
        [0, 0, 0, 1, 1, 1],
        [0, 1, 2, 0, 1, 2],
        [1, 1, -1, -1, 1, 1],
        groups=[{"region": "north"}, {"region": "north"}, {"region": "south"}],
    )
    found = {(p.one, p.other): p for p in groups(said, "region").agreement}
    assert found["north", "north"].agreement.estimate == 0.5
    assert found["north", "south"].agreement.estimate == pytest.approx(1 / 4)
    assert found["south", "south"].pairs == 0
    chance = 3 / 4 * 1 / 2 + 1 / 4 * 1 / 2
    assert found["north", "south"].kappa == pytest.approx((1 / 4 - chance) / (1 - chance))


def test_raters_who_named_no_group_are_one_of_their_own():
    said = Judgements.of([0, 0], [0, 1], [1, 1], groups=[{"region": "north"}, {}])
    assert membership(said, "region")[0] == ["north", UNKNOWN]


def test_a_minority_of_one_mind_that_is_outvoted_raises_a_warning():
    for seed in range(5):
        found = groups(_project(seed, dissenting=1 / 3, contested=0.3), "region")
        south = next(e for e in found.erased if e.group == "south")
        assert south.warns
        assert south.p_value < 0.02
        assert "erases what they prefer" in south.warning
        assert south.share > south.by_chance + 0.05
        contested = Items.drawn(300, seed=seed, contested=0.3).contested
        assert contested[south.overruled[:20]].mean() > 0.8


def test_groups_that_want_the_same_raise_none():
    warned, p_values = 0, []
    for seed in range(20):
        found = groups(_project(seed, dissenting=1 / 3, contested=0.0), "region", permutations=200)
        warned += sum(e.warns for e in found.erased)
        p_values += [e.p_value for e in found.erased]
    assert warned <= 1
    assert 0.35 < np.mean(p_values) < 0.75  # of chance alone they are uniform, or a little above


def test_careless_raters_are_outvoted_too_but_not_erased():
    """They disagree with the majority as often, and with each other as much."""
    warned = 0
    for seed in range(10):
        people = Population.uniform(12, reliability=0.9, seed=seed)
        careless = np.arange(12) < 4
        people = replace(people, reliability=np.where(careless, 0.55, 0.93), dissents=careless)
        said = simulate(people, Items.drawn(300, seed=seed), raters_per_item=6)
        found = groups(said, "region", permutations=200)
        south = next(e for e in found.erased if e.group == "south")
        assert south.share > south.by_chance
        warned += south.warns
    assert warned == 0


def test_preferences_by_group_are_shares_with_intervals_over_raters():
    people = Population.uniform(20, seed=1)
    south = np.arange(20) < 10
    people = replace(people, prefers_longer=np.where(south, 0.85, 0.4), dissents=south)
    said = simulate(people, Items.drawn(800, seed=1, length_quality=0.0), raters_per_item=4)
    north, south = groups(said, "region").preferences
    assert (north.group, south.group, north.raters) == ("north", "south", 10)
    assert south.leans["length"].low > north.leans["length"].high
    assert south.leans["first"].low < 0.5 < south.leans["first"].high


def test_ratings_are_compared_by_their_means():
    said = Judgements.of(
        [0, 1, 0, 1, 0, 1],
        [0, 0, 1, 1, 2, 2],
        [5, 6, 5, 7, 1, 2],
        paired=False,
        groups=[{"g": "x"}, {"g": "x"}, {"g": "y"}],
    )
    found = groups(said, "g")
    assert found.preferences[0].leans["value"].estimate == 5.75
    assert found.erased == []


def test_one_group_has_nobody_to_be_outvoted_by():
    found = groups(_project(0, dissenting=0.0, contested=0.0), "region")
    assert found.names == ["north"]
    assert found.erased == []


def test_nobody_has_said_anything_yet():
    found = groups(Judgements.of([], [], [], groups=[{}, {"g": "x"}], rater_names=["a", "b"]), "g")
    assert found.names == [UNKNOWN, "x"]
    assert found.erased == []
