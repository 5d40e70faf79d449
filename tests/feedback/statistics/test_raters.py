"""One rater at a time: counted by hand, and recovered from raters that are known."""

from dataclasses import replace

import numpy as np
import pytest

from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.raters import (
    PAUSE,
    group_median,
    rater_reports,
    sessions,
    with_others,
)
from backflip.feedback.statistics.simulate import Items, Population, simulate

NAN = np.nan


def test_agreement_gold_ties_and_silence_by_hand():
    said = Judgements.of(
        item=[0, 0, 0, 1, 1, 2, 3],
        rater=[0, 1, 2, 0, 1, 0, 0],
        value=[1, 1, -1, 0, -0.5, 1, NAN],
        gold=[1, -1, NAN, 1],
    )
    first, second, third = rater_reports(said)
    assert (first.judgements, second.judgements, third.judgements) == (4, 2, 1)
    assert first.agreement.estimate == pytest.approx((1 / 2 + 0) / 2)
    assert second.agreement.estimate == pytest.approx((1 / 2 + 0) / 2)
    assert third.agreement.estimate == 0
    assert (first.gold.estimate, first.gold_items) == (0.75, 2)  # right, and a tie: half
    assert (second.gold.estimate, third.gold.estimate) == (1, 0)
    assert first.ties.estimate == pytest.approx(1 / 3)
    assert first.silent.estimate == pytest.approx(1 / 4)


def test_steadiness_is_the_share_of_repeats_that_say_the_same():
    said = Judgements.of(
        item=[0, 1, 2, 0, 1, 2, 9],
        rater=[0, 0, 0, 0, 0, 0, 0],
        value=[1, -1, 0.5, 0.25, 1, NAN, 1],
        repeat=[0, 0, 0, 1, 1, 1, 1],  # one silent, one whose first answer is not here
    )
    report = rater_reports(said)[0]
    assert report.repeats == 2
    assert report.consistency.estimate == 0.5
    assert report.judgements == 3


def test_a_coin_repeats_itself_half_the_time_and_a_good_rater_nearly_always():
    people = replace(Population.uniform(2), reliability=np.array([0.5, 0.97]))
    said = simulate(people, Items.drawn(1500, seed=1), raters_per_item=2, repeat_share=0.5)
    coin, good = rater_reports(said)
    assert coin.consistency.low < 0.5 < coin.consistency.high
    assert good.consistency.low > 0.9


def test_sessions_end_where_somebody_pauses():
    at = np.array([0.0, 60, 120, 120 + PAUSE + 1, 10, 130 + PAUSE])
    rater = np.array([0, 0, 0, 0, 1, 0])
    hours, session = sessions(rater, at)
    assert session.tolist() == [0, 0, 0, 1, 0, 1]
    assert hours * 3600 == pytest.approx([0, 60, 120, 0, 0, 9])


def test_who_clicks_through_and_who_drinks_coffee_is_seen():
    rng = np.random.default_rng(0)
    item, rater = np.tile(np.arange(100), 5), np.repeat(np.arange(5), 100)
    reading = np.exp(rng.normal(3, 0.6, 100))[item]  # some items are long
    pace = np.array([1.0, 1.0, 1.0, 2.0, 0.3])[rater]
    seconds = reading * pace * np.exp(rng.normal(0, 0.15, 500))
    seconds[7], seconds[13] = 0.5, 3000.0
    said = Judgements.of(item, rater, np.ones(500), seconds=seconds)
    reports = rater_reports(said)
    assert 7 in reports[0].pace.fast
    assert 13 in reports[0].pace.slow
    assert sum(len(r.pace.fast) + len(r.pace.slow) for r in reports) <= 2 + 10  # 2 % of 500
    assert reports[3].pace.against_others == pytest.approx(2.0, rel=0.15)
    assert reports[4].pace.against_others == pytest.approx(0.3, rel=0.15)
    assert reports[0].pace.median == pytest.approx(np.median(seconds[:100]), rel=1e-3)


def test_one_who_tires_is_seen_and_one_who_does_not_is_not():
    people = Population.uniform(8, reliability=0.93, seed=2)
    fatigue = np.zeros(8)
    fatigue[3] = 1.5
    people = replace(people, fatigue=fatigue, seconds=np.full(8, 12.0))
    reports = rater_reports(simulate(people, Items.drawn(4000, seed=2), raters_per_item=4))
    assert reports[3].tiring.high < 0
    assert reports[3].pace.per_hour.estimate == pytest.approx(-1.5, abs=0.1)
    others = [r.tiring for k, r in enumerate(reports) if k != 3]
    assert max(t.low for t in others) < 0.02
    assert reports[0].sessions > 1


def test_intervals_of_agreement_hold_what_endless_items_would_give():
    """Two raters of reliability 0.8 on a side: 0.68."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        truth = rng.choice([-1.0, 1.0], 80)
        hit = rng.random((3, 80)) < 0.8
        said = Judgements.of(
            np.tile(np.arange(80), 3),
            np.repeat(np.arange(3), 80),
            np.where(hit, truth, -truth).ravel(),
        )
        found = rater_reports(said)[0].agreement
        inside += found.low <= 0.68 <= found.high
    assert inside / 200 >= 0.93


def test_with_others_counts_the_others():
    said = Judgements.of([0, 0, 0, 1], [0, 1, 2, 0], [1, 1, -1, 1])
    shared, same = with_others(said)
    assert shared.tolist() == [True, True, True, False]
    assert same[:3].tolist() == [0.5, 0.5, 0]


def test_group_medians_are_numpys():
    rng = np.random.default_rng(0)
    group, x = rng.integers(0, 6, 101), rng.normal(size=101)
    found = group_median(group, x, 7)
    for g in range(6):
        assert found[g] == np.median(x[group == g])
    assert np.isnan(found[6])


def test_ratings_have_no_ties_and_nobody_is_no_mistake():
    rated = Judgements.of([0, 0], [0, 1], [3, 4], paired=False, gold=[3.0])
    one, two = rater_reports(rated)
    assert np.isnan(one.ties.estimate)
    assert (one.gold.estimate, two.gold.estimate) == (1, 0)
    assert rater_reports(Judgements.of([], [], [])) == []
    new = rater_reports(Judgements.of([], [], [], rater_names=["r-1"]))[0]
    assert new.judgements == 0
    assert np.isnan(new.agreement.estimate)
    assert np.isnan(new.pace.median)
