"""Statistics, against scipy and scikit-learn where they have them, else by hand or simulation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from backflip.functional.statistics import (
    Interval,
    accuracy,
    bounded_interval,
    brier,
    calibration_error,
    calibration_slope,
    distinct_n,
    kl_best_of_n,
    log_loss,
    mean_interval,
    paired_difference,
    pearson,
    reliability_curve,
    share_interval,
    temperature,
    wilson,
)


def _scores(rows=400, slope=1.0, seed=0):
    """Score differences, signed by who won, when the truth is σ(slope·Δ)."""
    rng = np.random.default_rng(seed)
    delta = rng.normal(0, 2, rows)
    return np.where(rng.random(rows) < 1 / (1 + np.exp(-slope * delta)), delta, -delta)


def _held(draw, truth, interval, rows=1000):
    """How often an interval of 95 % holds the truth."""
    found = [interval(draw()) for _ in range(rows)]
    return sum(one.low <= truth <= one.high for one in found) / rows


@pytest.mark.parametrize(
    ("law", "truth", "least", "most"),
    [("normal", 0.0, 0.93, 0.97), ("exponential", 1.0, 0.90, 0.97)],
)
def test_ten_numbers_hold_their_mean_as_often_as_they_say(law, truth, least, most):
    """Percentile bootstraps hold 90 % and 86 % here, Student's t alone 95 % and 90 %."""
    rng = np.random.default_rng(0)
    assert least <= _held(lambda: getattr(rng, law)(size=10), truth, mean_interval) <= most


def test_of_numbers_without_skew_it_is_students_t():
    x = np.array([-3.0, -1.0, -0.5, 0.5, 1.0, 3.0]) + 7
    theirs = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    ours = mean_interval(x, level=0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.units == 6


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
def test_it_is_never_narrower_than_students_t(values):
    x = np.array(values)
    ours, reach = mean_interval(x), stats.t.ppf(0.975, len(x) - 1) * stats.sem(x)
    assert ours.low <= x.mean() - reach + 1e-9
    assert ours.high >= x.mean() + reach - 1e-9


@pytest.mark.parametrize("sizes", [(4, 5), (1, 5)], ids=["equal groups", "unequal groups"])
def test_rows_that_share_a_disturbance_are_held_as_often_as_rows_apart(sizes):
    rng = np.random.default_rng(0)

    def draw():
        group = np.repeat(np.arange(12), rng.integers(*sizes, size=12))
        return 3 + rng.normal(size=12)[group] + 0.3 * rng.normal(size=len(group)), group

    assert 0.92 <= _held(draw, 3, lambda drawn: mean_interval(*drawn)) <= 0.98
    assert _held(draw, 3, lambda drawn: mean_interval(drawn[0])) < 0.85


@pytest.mark.parametrize("p", [0.5, 0.8])
@pytest.mark.parametrize("alike", [0.05, 1.0, 30.0])
def test_shares_are_held_however_much_the_rows_of_a_prompt_are_alike(p, alike):
    """``alike``: 30 makes each prompt's rows nearly independent, 0.05 nearly the same."""
    rng = np.random.default_rng(0)

    def draw():
        group = np.repeat(np.arange(20), 4)
        return rng.random(80) < rng.beta(alike * p, alike * (1 - p), 20)[group], group

    assert _held(draw, p, lambda drawn: share_interval(*drawn)) >= 0.92


def test_copies_of_a_row_make_nothing_more_certain():
    """Ten identical answers per prompt: an interval by rows would be √10 too narrow."""
    x = np.random.default_rng(0).normal(size=40)
    once, copied = mean_interval(x), mean_interval(np.repeat(x, 10), np.repeat(np.arange(40), 10))
    naive = mean_interval(np.repeat(x, 10))
    assert (copied.low, copied.high, copied.units) == pytest.approx((once.low, once.high, 40))
    assert once.high - once.low > 2.5 * (naive.high - naive.low)
    hits = x > 0.5
    alone = share_interval(hits)
    copied = share_interval(np.repeat(hits, 10), np.repeat(np.arange(40), 10))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.01)


@pytest.mark.parametrize(("right", "of"), [(3, 3), (0, 8), (12, 40)])
def test_shares_of_rows_apart_are_wilsons(right, of):
    ours = share_interval([1.0] * right + [0.0] * (of - right))
    theirs = stats.binomtest(right, of).proportion_ci(0.95, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.units == of


def test_three_pairs_of_one_prompt_say_nothing_and_of_three_prompts_little():
    one, three = share_interval([1.0] * 3, [7, 7, 7]), share_interval([1.0] * 3, [5, 6, 7])
    assert (one.estimate, one.low, one.high, one.units) == (1.0, 0.0, 1.0, 1)
    assert three.low < 0.5
    assert not three.enough


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 6)), min_size=1),
)
def test_an_interval_of_a_share_has_a_width_and_holds_its_estimate(rows):
    hits, group = zip(*rows, strict=True)
    for found in (share_interval(hits), share_interval(hits, group)):
        assert 0 <= found.low <= found.estimate <= found.high <= 1
        assert found.high - found.low > 1e-3
        assert found.units in (len(hits), len(set(group)))


def test_rows_weigh_the_same_however_they_are_grouped():
    """Fifteen groups of nine ones and fifteen of one zero: 0.9, not the 0.5 of group means."""
    x, group = np.repeat([1.0, 0.0], [135, 15]), np.repeat(np.arange(30), [9] * 15 + [1] * 15)
    for interval in (mean_interval(x, group), share_interval(x, group)):
        assert interval.low < interval.estimate == 0.9 < interval.high


def test_groups_may_be_named_by_anything():
    x, numbered = [1.0, 2.0, 4.0, 0.0], np.array([7, 7, -1, 3])
    named = np.array(["b", "b", "a", "c"])
    assert mean_interval(x, named) == mean_interval(x, numbered)
    assert mean_interval(x, named).estimate == 1.75


def test_one_group_says_nothing_about_spread():
    interval = mean_interval([1.0, 2.0], [5, 5])
    assert (interval.estimate, interval.low, interval.high) == (1.5, -math.inf, math.inf)
    assert not interval.excludes_zero
    assert mean_interval([0.3], within=(0.0, 1.0)).high == 1.0


def test_a_mean_that_cannot_be_negative_has_no_negative_end():
    found = mean_interval([0.0, 0.0, 0.9], within=(0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)


def test_equal_numbers_have_no_spread_whatever_they_are():
    found = mean_interval([0.1] * 7)
    assert found.low == found.high == found.estimate


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 10, 50)
    before, after = difficulty, difficulty + 1 + 0.1 * rng.normal(size=50)
    gain = paired_difference(after, before)
    assert gain.excludes_zero
    assert gain.low < 1.02 < gain.high < 1.2
    assert not paired_difference(after, rng.permutation(before)).excludes_zero


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (7, 10), (10, 10), (640, 1000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_wilson_interval_agrees_with_scipy(successes, trials, level):
    theirs = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    ours = wilson(successes, trials, level=level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.estimate == successes / trials


def test_nothing_tried_is_nothing_known():
    interval = wilson(0, 0)
    assert (interval.low, interval.high) == (0, 1)
    assert math.isnan(interval.estimate)


def test_accuracy_gives_half_for_equal_scores():
    assert accuracy([2.0, -0.1, 0.0]).tolist() == [1.0, 0.0, 0.5]


def test_log_loss_and_brier_agree_with_scikit_learn():
    delta = _scores()
    p, truth = 1 / (1 + np.exp(-delta)), np.ones(len(delta))
    assert log_loss(delta).mean() == pytest.approx(sklearn_log_loss(truth, p, labels=[0, 1]))
    assert brier(delta).mean() == pytest.approx(brier_score_loss(truth, p, labels=[0, 1]))


def test_guessing_costs_ln_2_and_a_quarter():
    assert log_loss([0.0]).tolist() == pytest.approx([math.log(2)])
    assert brier([0.0]).tolist() == [0.25]


@given(st.floats(-30, 30), st.floats(0, 1))
def test_soft_targets_do_not_care_which_answer_is_named_first(delta, target):
    assert log_loss([delta], [target]) == pytest.approx(log_loss([-delta], [1 - target]), abs=1e-9)
    assert brier([delta], [target]) == pytest.approx(brier([-delta], [1 - target]), abs=1e-9)
    swapped = reliability_curve([-delta], [1 - target])
    assert reliability_curve([delta], [target]).accuracy == pytest.approx(swapped.accuracy)


def test_the_losses_stay_finite_for_absurd_scores():
    assert log_loss([-1e4, 1e4]).tolist() == [1e4, 0.0]


@pytest.mark.parametrize("decimals", [9, 0], ids=["all different", "many equal"])
def test_the_reliability_curve_agrees_with_scikit_learn(decimals):
    delta = _scores(1000).round(decimals)
    delta = delta[delta != 0]
    curve = reliability_curve(delta, bins=8)
    claimed = 1 / (1 + np.exp(-np.abs(delta)))
    share, confidence = calibration_curve(delta > 0, claimed, n_bins=8, strategy="quantile")
    np.testing.assert_allclose(curve.accuracy, share)
    np.testing.assert_allclose(curve.confidence, confidence)
    assert curve.rows.sum() == len(delta)
    if decimals:
        assert curve.rows.tolist() == [125] * 8


def test_a_soft_target_is_what_was_true():
    """Sure of the wrong side: the model claims σ(2) for an answer that 30 % preferred."""
    curve = reliability_curve([-2.0], [0.7])
    assert curve.accuracy == pytest.approx([0.3])
    assert curve.confidence == pytest.approx([1 / (1 + math.exp(-2))])


def test_the_calibration_error_by_hand():
    """Claims 0.5 (right half of the time) and 0.9 (right half of the time): mean gap 0.2."""
    sure = math.log(9)
    assert calibration_error([0.0, 0.0, sure, -sure], bins=2) == pytest.approx(0.2)


def test_calibration_notices_a_model_that_claims_too_much():
    honest, boastful = _scores(20_000), 3 * _scores(20_000)
    assert calibration_error(honest) < 0.015
    assert calibration_error(boastful) > 0.08
    assert calibration_slope(honest) == pytest.approx(1, abs=0.05)
    assert calibration_slope(boastful) == pytest.approx(1 / 3, abs=0.02)
    assert temperature(boastful) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("slope", [-0.5, 0.05, 1.0, 4.0])
def test_the_calibration_slope_agrees_with_scikit_learn(slope):
    """Logistic regression without an intercept on the pair in both orders."""
    delta = _scores(500, slope=slope)
    both = np.concatenate([delta, -delta])[:, None]
    truth = np.repeat([1, 0], len(delta))
    fit = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(both, truth)
    assert calibration_slope(delta) == pytest.approx(fit.coef_[0, 0], rel=1e-4)


@given(
    st.lists(
        st.tuples(st.floats(-50, 50).filter(lambda d: abs(d) > 1e-3), st.floats(0.02, 0.98)),
        min_size=1,
        max_size=8,
    ),
)
def test_the_fitted_slope_is_where_the_likelihood_is_flat(rows):
    delta, target = (np.array(column) for column in zip(*rows, strict=True))
    slope = calibration_slope(delta, target)
    gradient = (delta * (target - 1 / (1 + np.exp(-slope * delta)))).sum()
    assert abs(gradient) < 1e-6 * np.abs(delta).sum()


def test_the_slope_is_found_when_a_few_scores_are_enormous():
    """Newton's method first climbs until those are settled, then jumps by five digits."""
    delta = np.array([1e6, -1e6, 1.0, 2.0])
    slope = calibration_slope(delta, [1.0, 0.0, 0.6, 0.6])
    gradient = (delta[2:] * (0.6 - 1 / (1 + np.exp(-slope * delta[2:])))).sum()
    assert abs(gradient) < 1e-9


def test_the_slope_of_the_faultless_the_wrong_and_the_mute():
    assert calibration_slope([1.0, 2.0, 0.0]) == math.inf
    assert calibration_slope([-1.0, -2.0]) == -math.inf
    assert math.isnan(calibration_slope([0.0, 0.0]))
    assert temperature([1.0, 2.0]) == 0
    assert temperature([-1.0, -2.0]) == math.inf
    assert math.isnan(temperature([0.0]))


def test_dividing_by_the_temperature_calibrates():
    delta = 2.5 * _scores()
    assert calibration_slope(delta / temperature(delta)) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=20))
def test_correlations_agree_with_scipy(points):
    """With many ties, as lengths and ratings have."""
    x, y = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    assert pearson(x, y) == pytest.approx(float(stats.pearsonr(x, y).statistic), nan_ok=True)


def test_distinct_n_by_hand():
    """a b a b: 2 of 4 tokens and 2 of 3 pairs differ; n-grams do not cross answers."""
    assert distinct_n(["abab"], n=1) == 0.5
    assert distinct_n(["abab"], n=2) == pytest.approx(2 / 3)
    assert distinct_n([[1, 2], [2, 1], [1, 2]], n=2) == pytest.approx(2 / 3)
    assert math.isnan(distinct_n(["ab"], n=3))


@pytest.mark.parametrize("n", [1, 2, 16])
def test_the_kl_of_best_of_n_by_integration(n):
    """The best of n uniform draws has density n·u^(n−1)."""
    u = (np.arange(200_000) + 0.5) / 200_000
    density = n * u ** (n - 1)
    integral = np.where(density > 0, density * np.log(density), 0).mean()
    assert kl_best_of_n(n) == pytest.approx(integral, abs=1e-4)


def test_tensors_are_numbers_too():
    delta = torch.tensor([1.0, -0.5])
    assert log_loss(delta).tolist() == pytest.approx(log_loss([1.0, -0.5]).tolist())
    assert mean_interval(delta, torch.tensor([0, 1])).estimate == pytest.approx(0.25)


def test_nothing_measured_is_not_a_number():
    assert math.isnan(calibration_error([]))
    assert math.isnan(calibration_slope([]))
    assert math.isnan(pearson([], []))
    assert math.isnan(mean_interval([]).estimate)


def test_a_verdict_needs_thirty_units():
    assert [wilson(n, n).enough for n in (0, 29, 30)] == [False, False, True]
    assert wilson(3, 3).named("share")["share_units"] == 3
    assert not Interval(0.5, 0.4, 0.6, 0.95).enough


def test_an_interval_says_none_where_json_has_no_word():
    known, unknown = Interval(0.5, 0.25, 1.0, 0.95), Interval(0.5, -math.inf, math.nan, 0.95)
    assert known.as_json() == {"estimate": 0.5, "low": 0.25, "high": 1.0}
    assert unknown.as_json() is None
    assert known.named("share") == {"share": 0.5, "share_low": 0.25, "share_high": 1.0}
    assert unknown.named("share") == {"share": 0.5, "share_low": None, "share_high": None}


@pytest.mark.parametrize(("questions", "answers"), [(20, 4), (40, 8), (162, 4)])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.43, 0.97])
def test_a_share_near_nothing_or_all_is_held_by_as_many_intervals_as_they_say(
    questions, answers, share
):
    """Questions are beta: as good as coins of one kind, or each nearly always right or wrong."""
    rng = np.random.default_rng(0)
    asked = np.repeat(np.arange(questions), answers)
    for alike in (0.2, 1.0, 20.0):
        held = 0
        for _ in range(200):
            ease = rng.beta(share * alike, (1 - share) * alike, questions)
            right = rng.random((questions, answers)) < ease[:, None]
            found = bounded_interval(right.reshape(-1), asked)
            held += found.low <= share <= found.high
        assert held >= 180, "0.93 and more; 180 of 200 are three standard errors below 0.95"
