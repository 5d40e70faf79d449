"""Length-controlled win rates: identities of the paper, planted coefficients, published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from backflip.functional import length_control as lc
from backflip.functional.length_control import Coefficients
from tests.parts import shared_rows

GAMED = ("NullModel", "gpt4_gamed")
"""Models that were built to deceive the judge, or the control of length."""


def planted(fits, *, instructions=400, seed=0):
    """(preferences [M, I], features [M, I], γ [I]) of models with these coefficients."""
    rng = np.random.default_rng(seed)
    gamma = rng.normal(size=instructions)
    x = np.tanh(rng.normal(size=(len(fits), instructions)))
    u = [f.theta + f.phi * row + f.psi * gamma for f, row in zip(fits, x, strict=True)]
    return (rng.random(x.shape) < expit(u)).astype(float), x, gamma


def test_the_feature_is_that_of_the_paper():
    feature = lc.length_feature(np.array([10.0, 20.0, 60.0]), np.array([10.0, 10.0, 10.0]))
    spread = np.array([0.0, 10.0, 50.0]).std(ddof=1)
    np.testing.assert_allclose(feature, np.tanh(np.array([0.0, 10.0, 50.0]) / spread))
    assert lc.length_feature(np.ones(3), np.ones(3)).tolist() == [0, 0, 0]


def test_a_model_and_its_opponent_add_up_to_100():
    """LC(m, b) = 100 − LC(b, m): sides change, so do the signs of Δ, θ, φ and ψ."""
    (said,), (x,), gamma = planted([Coefficients(0.4, -1.0, 0.8)])
    one = lc.length_controlled(lc.refit(said, x, gamma), gamma)
    other = lc.length_controlled(lc.refit(1 - said, -x, gamma), gamma)
    assert one + other == pytest.approx(100)
    assert lc.length_controlled(Coefficients(0.0, 0.0, 0.0), gamma) == 50


def test_planted_coefficients_are_found_and_length_buys_nothing():
    fit = Coefficients(0.0, -2.0, 0.9)
    gamma = np.zeros(4000)
    x = np.full(4000, -0.8)
    x[::4] = 0.8
    rng = np.random.default_rng(0)
    said = (rng.random(4000) < expit(fit.phi * x)).astype(float)
    assert lc.win_rate(said) > 60
    found = lc.refit(said, x, gamma)
    assert found.phi == pytest.approx(-2.0, abs=0.15)
    assert lc.length_controlled(found, gamma) == pytest.approx(50, abs=3)


def test_a_direction_without_data_stays_at_the_centre_of_its_prior():
    prior = lc.Prior(phi=(-1.5, 0.3), psi=(0.9, 0.2))
    found = lc.refit(np.full(50, 0.5), np.zeros(50), np.zeros(50), prior=prior)
    assert (found.theta, found.phi, found.psi) == pytest.approx((0.0, -1.5, 0.9))


def test_difficulties_are_those_that_were_planted():
    fits = [Coefficients(t, -1.0, 1.0) for t in np.linspace(-1, 1, 40)]
    said, x, gamma = planted(fits, instructions=60)
    found = lc.difficulties(said, x, fits)
    assert np.corrcoef(found, gamma)[0, 1] > 0.9


def test_anchors_come_out_right_and_the_rest_hardly_moves():
    fits = [Coefficients(t, -1.0, 1.0) for t in (-1.0, 0.0, 1.0)]
    said, x, gamma = planted(fits, instructions=200)
    anchors = [(f, lc.length_controlled(f, gamma)) for f in (Coefficients(-0.7, 0.0, 0.6),)]
    free, held = (lc.difficulties(said, x, fits, anchors=some) for some in ((), anchors))
    fit, rate = anchors[0]
    assert abs(lc.length_controlled(fit, free) - rate) > 0.3
    assert lc.length_controlled(fit, held) == pytest.approx(rate, abs=0.02)
    assert np.corrcoef(free, held)[0, 1] > 0.99


def test_a_joint_fit_needs_no_coefficients():
    theta, phi = np.linspace(-1, 1, 12), np.tile((-1.5, -0.5, 0.0), 4)
    fits = [Coefficients(float(t), float(p), 1.0) for t, p in zip(theta, phi, strict=True)]
    said, x, gamma = planted(fits, instructions=500)
    found, difficulty = lc.fit_jointly(said, x)
    rates = [lc.length_controlled(f, gamma) for f in fits]
    np.testing.assert_allclose([lc.length_controlled(f, difficulty) for f in found], rates, atol=5)


def test_alpaca_eval_2():
    """Raw to 1e-3 points; published coefficients within 0.6, our own refit within 1.2, r ≥ 0.99.

    No model's own published number takes part: the anchors are the other models'.
    """
    models = [m for m in shared_rows("alpaca_eval2") if m["model"] != "gpt4_1106_preview"]
    known = {row["model"]: row for row in shared_rows("alpaca_eval2_coefficients")}
    own = {name: Coefficients(*(float(r[c]) for c in ("theta", "phi", "psi")))
           for name, r in known.items()}  # fmt: skip
    said, x = np.full((len(models), 805), np.nan), np.zeros((len(models), 805))
    for place, model in enumerate(models):
        rows = np.array(model["rows"], dtype=float)
        number = rows[:, 0].astype(int)
        said[place, number] = np.where(rows[:, 3] == 0, 1.5, rows[:, 3]) - 1
        x[place, number] = lc.length_feature(rows[:, 1], rows[:, 2])
    raw = np.array([m["published"]["win_rate"] for m in models])
    np.testing.assert_allclose([lc.win_rate(row) for row in said], raw, atol=1e-3)

    names = [m["model"] for m in models]
    others = {n: f for n, f in own.items() if n not in names and f.psi and known[n]["lc"]}
    anchors = [(fit, float(known[name]["lc"])) for name, fit in others.items()]
    gamma = lc.difficulties(said, x, [own[n] for n in names], anchors=anchors)
    published = np.array([m["published"]["lc"] for m in models])
    stated = np.array([lc.length_controlled(own[n], gamma) for n in names])
    assert np.abs(stated - published).mean() < 0.6

    prior = lc.Prior.of(list(others.values()))
    fits = [lc.refit(p, f, gamma, prior=prior) for p, f in zip(said, x, strict=True)]
    refit = np.array([lc.length_controlled(fit, gamma) for fit in fits])
    fair = np.array([name not in GAMED for name in names])
    assert np.abs(refit - published)[fair].mean() < 1.2
    assert np.corrcoef(refit[fair], published[fair])[0, 1] > 0.99
