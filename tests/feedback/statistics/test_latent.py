"""The model behind the gauges: its integral, its slope and its information."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from backflip.feedback.statistics.latent import GRID, Design, covariance, evaluate, penalty


def _design(ties=True, seed=0, items=12, raters=3):
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(items), raters)
    rater = np.tile(np.arange(raters), items)
    value = rng.choice([-1.0, 1.0, 0.0] if ties else [-1.0, 1.0], len(item))
    z = np.column_stack([rng.choice([-1.0, 1.0], len(item)), rng.normal(size=items)[item]])
    design = Design.of(item, rater, value, z, raters)
    x = np.column_stack(
        [rng.normal(1.2, 0.3, raters), rng.normal(0, 0.5, (raters, 2)), rng.normal(-1, 0.3, raters)]
    )
    return design, x


def _davidson(value, u, nu):
    a, b = np.exp(u / 2), np.exp(-u / 2)
    weight = {1.0: a, -1.0: b, 0.0: nu}[value]
    return weight / (a + b + nu)


@pytest.mark.parametrize("ties", [True, False])
def test_the_sum_over_the_grid_is_the_integral(ties):
    design, x = _design(ties)
    nats = 0.0
    for i in np.unique(design.item):
        rows = np.flatnonzero(design.item == i)

        def density(theta, rows=rows):
            p = norm.pdf(theta)
            for n in rows:
                k = design.rater[n]
                u = np.sinh(x[k, 0]) * theta + x[k, 1:-1] @ design.z[n]
                p *= _davidson(design.value[n], u, np.exp(x[k, -1]) if ties else 0.0)
            return p

        nats += np.log(quad(density, -9, 9, epsabs=1e-12)[0])
    assert evaluate(design, x)[0] == pytest.approx(nats, abs=1e-5)


@pytest.mark.parametrize("ties", [True, False])
def test_the_slope_is_that_of_finite_differences(ties):
    design, x = _design(ties)
    slope, step = evaluate(design, x)[1], 1e-5
    for place in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[place] += step
        behind[place] -= step
        by_hand = (evaluate(design, ahead)[0] - evaluate(design, behind)[0]) / (2 * step)
        assert slope[place] == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("ties", [True, False])
def test_the_information_is_that_of_finite_differences(ties):
    """Louis's identity against the slope's own slope, prior included."""
    design, x = _design(ties)

    def slope(at):
        return (penalty(design, at)[1] - evaluate(design, at)[1]).ravel()

    step, numeric = 1e-5, []
    for place in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[place] += step
        behind[place] -= step
        numeric.append((slope(ahead) - slope(behind)) / (2 * step))
    np.testing.assert_allclose(np.linalg.inv(covariance(design, x)), numeric, atol=1e-5)


def test_blocks_hold_whole_items_and_change_nothing(monkeypatch):
    design, x = _design()
    whole, spread = evaluate(design, x), covariance(design, x)
    monkeypatch.setattr("backflip.feedback.statistics.latent.ROWS", 7)
    blocks = design.blocks()
    assert len(blocks) > 3
    for one, two in pairwise(blocks):
        assert design.item[one.stop - 1] != design.item[two.start]
    value, slope = evaluate(design, x)
    assert value == pytest.approx(whole[0])
    np.testing.assert_allclose(slope, whole[1])
    np.testing.assert_allclose(covariance(design, x), spread, atol=1e-12)


def test_the_grid_is_even_about_zero():
    np.testing.assert_allclose(GRID, -GRID[::-1], atol=1e-12)
