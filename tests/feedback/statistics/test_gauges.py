"""Bias gauges: what they are shares of, and that their intervals hold the truth as often as they
claim."""

from dataclasses import replace

import numpy as np
import pytest

from backflip.feedback.statistics.gauges import contrasts, gauges
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.simulate import Items, Population, simulate, true_gauges

NAMES = ("first", "length", "lists")


def _covered(seeds, gold_share):
    """[seeds, R, 3] Whether the 95 % interval holds the truth: 20 raters, 150 labels each, 5 an
    item."""
    found = []
    for seed in seeds:
        people = Population.drawn(20, seed=seed)
        said = simulate(
            people, Items.drawn(600, seed=seed), raters_per_item=5, gold_share=gold_share
        )
        fitted = gauges(said)
        assert fitted.reference == ("gold" if gold_share else "crowd")
        truth = true_gauges(people, fitted.reference)
        found.append(
            [
                [r[n].own.low <= truth[n][k] <= r[n].own.high for n in NAMES]
                for k, r in enumerate(fitted.by_rater)
            ]
        )
    return np.array(found)


def test_intervals_cover_the_truth_in_a_few_projects():
    assert 0.90 <= _covered(range(4), 1.0).mean() <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("gold_share", [1.0, 0.5, 0.0])
def test_95_percent_intervals_cover_the_truth_in_92_to_98_percent_over_50_seeds(gold_share):
    """3,000 intervals: 50 projects, 20 raters with every bias, ties and fatigue, three gauges."""
    covered = _covered(range(50), gold_share)
    for gauge, name in enumerate(NAMES):
        assert 0.92 <= covered[:, :, gauge].mean() <= 0.98, name


@pytest.mark.slow
def test_accuracies_without_bias_correlate_with_the_true_reliabilities():
    found = []
    for seed in range(20):
        people = Population.drawn(20, seed=seed)
        fitted = gauges(simulate(people, Items.drawn(600, seed=seed), raters_per_item=5))
        found.append(np.corrcoef(people.reliability, fitted.accuracy)[0, 1])
    assert np.mean(found) > 0.96
    assert min(found) > 0.93


def test_where_longer_is_better_a_fair_rater_prefers_longer_and_is_not_biased():
    """What the raw share cannot tell: quality owes half a standard deviation to length."""
    people = Population.uniform(12, reliability=0.85)
    said = simulate(
        people, Items.drawn(900, seed=2, length_quality=1.0), raters_per_item=4, gold_share=1.0
    )
    found = [g["length"] for g in gauges(said).by_rater]
    assert np.mean([g.share.low > 0.5 for g in found]) > 0.9
    assert np.mean([g.biased for g in found]) < 0.2
    assert np.mean([g.own.estimate for g in found]) == pytest.approx(0.5, abs=0.05)


def test_one_who_takes_the_first_answer_stands_out():
    people = Population.uniform(10, reliability=0.8, seed=3)
    first = people.prefers_first.copy()
    first[4] = 0.85
    said = simulate(
        replace(people, prefers_first=first), Items.drawn(500, seed=3), raters_per_item=3
    )
    found = [g["first"] for g in gauges(said).by_rater]
    assert found[4].biased
    assert found[4].own.low < 0.85 < found[4].own.high
    assert max(range(10), key=lambda k: found[k].own.estimate) == 4


def test_a_taste_that_all_share_shows_against_gold_and_not_against_the_crowd():
    people = replace(Population.uniform(10, seed=4), prefers_longer=np.full(10, 0.8))
    said = simulate(people, Items.drawn(600, seed=4), raters_per_item=4, gold_share=1.0)
    gold = [g["length"].own.estimate for g in gauges(said, reference="gold").by_rater]
    crowd = [g["length"].own.estimate for g in gauges(said, reference="crowd").by_rater]
    assert np.mean(gold) == pytest.approx(0.8, abs=0.06)
    assert np.mean(crowd) == pytest.approx(0.5, abs=0.02)


def test_shares_are_counted_over_pairs_that_differ_and_choices_that_are_no_ties():
    said = Judgements.of(
        [0, 1, 2, 3],
        [0, 0, 0, 0],
        [1, -0.5, 0, 1],
        first=[1, 1, 1, -1],
        features={"length": [10, 10, 10, 0], "lists": [0, -2, 1, 0]},
    )
    found = gauges(said).by_rater[0]
    assert (found["length"].share.estimate, found["length"].choices) == (0.5, 2)
    assert (found["lists"].share.estimate, found["lists"].choices) == (1.0, 1)
    assert (found["first"].share.estimate, found["first"].choices) == (1 / 3, 3)


def test_contrasts_are_odd_one_at_the_root_mean_square_and_signs_for_lists():
    length = np.array([100.0, -100, 100, -100])
    found = contrasts({"length": length, "lists": np.array([5, -1, 0, 2])})
    assert found["length"].tolist() == pytest.approx([1, -1, 1, -1])
    assert found["lists"].tolist() == [1, -1, 0, 1]
    assert contrasts({"length": np.zeros(3)})["length"].tolist() == [0, 0, 0]


def test_who_calls_ties_readily_is_seen():
    people = replace(Population.uniform(6, seed=5), ties=np.array([0.0, 0.1, 0.1, 0.1, 0.1, 0.5]))
    found = gauges(simulate(people, Items.drawn(400, seed=5), raters_per_item=3))
    assert found.tie[0] < 0.05
    assert found.tie[5] == pytest.approx(0.5, abs=0.1)


def test_one_who_has_not_answered_is_unknown_not_fair():
    said = simulate(Population.uniform(4), Items.drawn(100), raters_per_item=3)
    more = Judgements.of(
        said.item,
        said.rater,
        said.value,
        first=said.first,
        features=said.features,
        rater_names=[*said.rater_names, "new"],
    )
    gauge = gauges(more).by_rater[4]["first"]
    assert gauge.choices == 0
    assert gauge.own.low < 0.05
    assert gauge.own.high > 0.95


def test_of_many_judgements_a_part_is_fitted_and_all_are_counted():
    said = simulate(Population.uniform(5), Items.drawn(1000), raters_per_item=3)
    found = gauges(said, most=600)
    assert 500 < found.judgements <= 600
    assert sum(g["first"].choices for g in found.by_rater) == 3000


def test_a_crowd_too_large_to_invert_at_once_is_taken_rater_by_rater(monkeypatch):
    said = simulate(Population.drawn(12, seed=6), Items.drawn(400, seed=6), raters_per_item=4)
    whole = gauges(said)
    monkeypatch.setattr("backflip.feedback.statistics.latent.LARGEST", 10)
    apart = gauges(said)
    for one, two in zip(whole.by_rater, apart.by_rater, strict=True):
        assert one["length"].own.estimate == pytest.approx(two["length"].own.estimate)
        width = one["length"].own.high - one["length"].own.low
        assert two["length"].own.high - two["length"].own.low == pytest.approx(width, rel=0.25)


def test_ratings_are_refused_and_nothing_is_no_mistake():
    with pytest.raises(ValueError, match="ratings have no sides"):
        gauges(Judgements.of([0], [0], [4.0], paired=False))
    assert gauges(Judgements.of([], [], [])).by_rater == []
