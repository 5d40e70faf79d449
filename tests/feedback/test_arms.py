"""What the active arm gained: beyond doubt where it did, in doubt where it did not."""

import numpy as np
import pytest
from scipy.special import expit

from backflip.feedback.choose.experiment_arms import Told, gain


def _world(seed, *, stretch=1.0, n=300, d=12):
    """Half of the items are active; ``stretch`` of their features makes their labels tell more."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=d)
    w *= 2 / np.linalg.norm(w)
    active = np.arange(n) % 2 == 0
    x = rng.normal(size=(n, d))
    x[active] *= stretch
    said = (rng.random(n) < expit(x @ w)).astype(float)
    return Told(x, said, np.ones(n), active)


def test_where_both_arms_are_chance_the_interval_holds_zero():
    """Nominal 95 %, over 12 worlds at three sizes each."""
    held = [
        not one.excludes_zero
        for seed in range(12)
        for one in gain(_world(seed), sizes=3, resamples=20).difference
    ]
    assert np.mean(held) >= 0.88


def test_an_arm_that_asks_better_questions_gains():
    found = [gain(_world(seed, stretch=3.0), sizes=3, resamples=25) for seed in range(6)]
    assert np.mean([f.difference[0].estimate for f in found]) > 0.02
    assert not any(d.high < 0 for f in found for d in f.difference)


def test_an_arm_of_coin_tosses_loses_beyond_doubt():
    told = _world(0)
    rng = np.random.default_rng(5)
    share = np.where(told.active, rng.integers(0, 2, len(told.share)), told.share).astype(float)
    found = gain(Told(told.x, share, told.votes, told.active), sizes=3)
    assert found.difference[-1].high < 0
    assert found.random[-1].estimate > found.active[-1].estimate


def test_both_arms_learn_from_equally_many_labels():
    told = _world(1)
    many = Told(told.x, told.share, np.where(told.active, 3.0, 1.0), told.active)
    found = gain(many, sizes=4, resamples=3)
    assert found.labels[-1] <= 120  # four folds of five of 150 items with one vote each
    assert found.held_out == 150
    rows = np.flatnonzero(many.active)
    assert many.votes[many.first(rows, 30)].sum() == 30


def test_too_few_labels_say_so():
    told = _world(0, n=60)
    found = gain(told)
    assert len(found.labels) == 0
    assert "30" in found.why
    assert found.as_json()["difference"] == []


def test_the_result_is_plain_json():
    import json

    found = gain(_world(2), sizes=2, resamples=3)
    read = json.loads(json.dumps(found.as_json()))
    assert read["labels"] == found.labels.tolist()
    assert read["active"][0][0] == pytest.approx(found.active[0].estimate)
