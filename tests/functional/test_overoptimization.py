"""Gao et al.'s curves: coefficients and peaks that are planted are found, and no others."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backflip.functional.overoptimization import (
    binned,
    coefficients,
    fit_course,
    fit_units,
    gain,
    peak,
)

D = np.linspace(0.2, 5.0, 25)


@pytest.mark.parametrize(("form", "alpha", "beta"), [("best_of_n", 1.2, 0.2), ("rl", 0.9, 0.5)])
def test_points_on_a_curve_give_its_coefficients_and_its_peak(form, alpha, beta):
    gains = np.array([gain(d, alpha, beta, form) for d in D])
    assert coefficients(D, gains, form) == pytest.approx((alpha, beta))
    top = peak(alpha, beta, form)
    assert max(D, key=lambda d: gain(d, alpha, beta, form)) == pytest.approx(top, abs=0.2)


def test_the_highest_gains_are_those_that_follow_from_the_forms():
    """α²/4β of best of n; β exp(α/β − 1) of reinforcement learning: both by setting R′ = 0."""
    alpha, beta = 1.3, 0.4
    at = [peak(alpha, beta, form) for form in ("best_of_n", "rl")]
    assert at == pytest.approx([alpha / (2 * beta), math.exp(alpha / beta - 1)])
    assert gain(at[0], alpha, beta, "best_of_n") == pytest.approx(alpha**2 / (4 * beta))
    assert gain(at[1], alpha, beta, "rl") == pytest.approx(beta * math.exp(alpha / beta - 1))


def test_a_noisy_run_that_turns_has_its_peak_inside_the_interval():
    noise, inside = np.random.default_rng(3), 0
    for seed in range(20):
        gains = np.array([gain(d, 0.6, 0.5, "rl") for d in D]) + noise.normal(0, 0.02, len(D))
        curve = fit_course(D, gains, seed=seed)
        assert curve is not None
        assert curve.turned
        inside += curve.peak.low <= peak(0.6, 0.5, "rl") <= curve.peak.high
    assert inside >= 16


def test_a_run_that_only_rises_has_no_sure_peak():
    curve = fit_course(D, 0.3 * D + np.random.default_rng(0).normal(0, 0.02, len(D)))
    assert curve is not None
    assert not curve.turned


def test_units_that_differ_widen_the_interval_of_best_of_n():
    d = [0.5, 1.0, 1.5, 2.0, 2.5]
    mean = np.array([gain(x, 1.0, 0.25, "best_of_n") for x in d])
    spread = np.random.default_rng(1).normal(0, 1, (60, 1)) * np.array(d)
    alike = fit_units(d, np.tile(mean, (60, 1)), "best_of_n")
    differing = fit_units(d, mean + spread, "best_of_n")
    assert alike is not None
    assert differing is not None
    assert alike.peak.low == pytest.approx(alike.peak.high)
    assert differing.alpha.low < 1.0 < differing.alpha.high


def test_too_few_distances_are_no_curve():
    assert fit_units([0.0, 1.0, 2.0], np.ones((5, 3)), "best_of_n") is None
    assert fit_course(np.array([1.0, 2.0]), np.array([0.1, 0.2])) is None


def test_steps_are_averaged_before_the_root_and_a_negative_mean_is_no_distance():
    d, gold = binned([1.0, 3.0, -1.0, -3.0, 9.0], [0.0, 1.0, 2.0, 4.0, 9.0], 2)
    assert d.tolist() == pytest.approx([math.sqrt(2.0), 0.0])
    assert gold.tolist() == [0.5, 3.0]
