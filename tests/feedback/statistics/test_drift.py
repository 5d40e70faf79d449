"""What changes while a project runs."""

from itertools import pairwise

import numpy as np
import pytest
import statsmodels.api as sm

from backflip.feedback.statistics.agreement import alpha
from backflip.feedback.statistics.drift import (
    WEEK,
    alpha_over_time,
    by_rubric,
    clustered_mean,
    clustered_share,
    leanings,
    trend,
)
from backflip.feedback.statistics.judgements import Judgements


def _improving(items=600, seed=0):
    """Three raters who are right with chance 0.65 in the first half and 0.95 in the second."""
    rng = np.random.default_rng(seed)
    item, rater = np.repeat(np.arange(items), 3), np.tile(np.arange(3), items)
    truth = rng.choice([-1.0, 1.0], items)
    late = item >= items // 2
    hit = rng.random(3 * items) < np.where(late, 0.95, 0.65)
    return Judgements.of(
        item,
        rater,
        np.where(hit, truth[item], -truth[item]),
        at=1e9 + item * 60.0 + rater,
        rubric=np.where(late, 2, 1),
    )


def test_alpha_over_time_shows_when_raters_came_to_agree():
    found = alpha_over_time(_improving(), moments=6)
    assert [m.items for m in found] == [100] * 6
    assert max(m.alpha.estimate for m in found[:3]) < 0.3
    assert min(m.alpha.estimate for m in found[3:]) > 0.6
    assert all(a.end <= b.start for a, b in pairwise(found))


def test_each_rubric_version_has_its_own_agreement():
    said = _improving()
    found = by_rubric(said)
    assert list(found) == [1, 2]
    assert found[1].alpha.high < found[2].alpha.low
    assert found[2].alpha.estimate == alpha(said.where(said.rubric == 2)).estimate


def test_judgements_under_different_rubrics_are_not_compared():
    said = Judgements.of([0, 0], [0, 1], [1, -1], rubric=[1, 2])
    assert [found.items for found in by_rubric(said).values()] == [0, 0]


def _leaning(seed=0, slope=0.1):
    """Thirty raters who come to prefer longer answers: 0.4 + slope per week, each in their own
    way."""
    rng = np.random.default_rng(seed)
    rater = np.repeat(np.arange(30), 80)
    weeks = rng.uniform(0, 4, len(rater))
    own = rng.normal(0, 0.08, 30)[rater]
    longer = rng.random(len(rater)) < 0.4 + slope * weeks + own
    sign = rng.choice([-1.0, 1.0], len(rater))
    return Judgements.of(
        np.arange(len(rater)),
        rater,
        np.where(longer, sign, -sign),
        at=1e9 + weeks * WEEK,
        rubric=1 + (weeks > 2),
        features={"length": 100 * sign},
    )


def test_a_preference_that_moves_over_weeks_is_seen():
    found = leanings(_leaning(), "length")
    assert [leaning.label for leaning in found.by_week] == ["week 1", "week 2", "week 3", "week 4"]
    shares = [leaning.share.estimate for leaning in found.by_week]
    assert shares == sorted(shares)
    assert found.trend.low > 0
    assert [leaning.label for leaning in found.by_rubric] == ["rubric 1", "rubric 2"]
    assert sum(leaning.choices for leaning in found.by_week) == 2400


def test_the_trend_covers_the_truth_as_often_as_it_claims():
    inside = 0
    for seed in range(150):
        found = leanings(_leaning(seed, slope=0.05), "length").trend
        inside += found.low <= 0.05 <= found.high
    assert 0.90 <= inside / 150 <= 0.99


def test_clustered_intervals_are_statsmodels():
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(12), 20)
    x, y = rng.normal(size=240), rng.normal(size=240) + rng.normal(size=12)[cluster]
    theirs = sm.OLS(y, sm.add_constant(x)).fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False}, use_t=True
    )
    ours, scale = trend(x, y, cluster), np.sqrt(12 / 11)
    assert ours.estimate == pytest.approx(theirs.params[1], abs=1e-9)
    reach = (ours.high - ours.low) / 2
    assert reach == pytest.approx(
        theirs.bse[1] * scale * (theirs.conf_int()[1][1] - theirs.params[1]) / theirs.bse[1],
        abs=1e-9,
    )
    mean = sm.OLS(y, np.ones(240)).fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False}, use_t=True
    )
    low, high = mean.conf_int()[0]
    found = clustered_mean(y, cluster)
    assert found.high - found.low == pytest.approx((high - low) * scale, abs=1e-9)


def test_choices_of_one_rater_go_together():
    """A hundred answers of two raters are two raters; alone, one rater's answers are the sample."""
    share = np.concatenate([np.ones(50), np.zeros(50)])
    two = clustered_share(share, np.repeat([0, 1], 50))
    one = clustered_share(share, np.zeros(100, int))
    assert two.high - two.low > 0.9
    assert one.high - one.low < 0.25


def test_shares_at_the_ends_and_of_nothing():
    nothing = clustered_share(np.zeros(0), np.zeros(0, int))
    assert np.isnan(nothing.estimate)
    assert (nothing.low, nothing.high) == (0, 1)
    sure = clustered_share(np.ones(20), np.zeros(20, int))
    assert (sure.estimate, sure.high) == (1, 1)
    assert 0.8 < sure.low < 1


def test_nobody_has_said_anything_yet():
    nothing = Judgements.of([], [], [], features={"length": []})
    assert alpha_over_time(nothing) == []
    assert by_rubric(nothing) == {}
    assert leanings(nothing, "length").by_week == []


def test_two_raters_who_never_choose_otherwise_are_two_raters():
    """However often they answered: other raters may choose otherwise."""
    found = clustered_share(np.ones(100), np.repeat([0, 1], 50))
    assert found.estimate == found.high == 1
    assert found.low < 0.4


def test_a_few_answers_on_a_line_are_no_trend():
    """Three points without an error around them would be as certain as can be."""
    found = trend(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5, 1.0]))
    assert found.estimate == pytest.approx(0.5)
    assert not found.excludes_zero
    assert found.as_json() is None
