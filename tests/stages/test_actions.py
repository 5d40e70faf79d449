"""What follows an alarm: nothing by itself, and what was asked for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from backflip.algorithms.online.grpo import GRPO
from backflip.errors import UserError
from backflip.monitor.log import Alarm
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe
from backflip.stages.actions import OnAlarm, acted


def loop():
    learner = SimpleNamespace(base_lrs=[1e-4, 2e-4])
    return SimpleNamespace(learner=learner, algorithm=GRPO(kl_coef=0.04))


def after(name, **asked):
    found = loop()
    told = acted(OnAlarm(**asked), [Alarm(3, name, "warn", "Said.")], found)
    return found, told


def test_an_alarm_that_nobody_named_changes_nothing():
    found, told = after("heldout_lags", stop=("kl_too_high",))
    assert told == ([], None)
    assert found == loop()


def test_rate_is_halved_and_the_price_of_kl_doubled():
    found, (said, end) = after("heldout_lags", lower_rate=("heldout_lags",), raise_kl=("trust",))
    assert found.learner.base_lrs == [5e-5, 1e-4]
    assert found.algorithm.kl_coef == pytest.approx(0.08)
    assert len(said) == 2
    assert end is None


@pytest.mark.parametrize("action", ["stop", "roll_back"])
def test_a_run_ends_with_the_alarms_own_sentence(action):
    assert after("kl_too_high", **{action: ("trust",)})[1] == ([], "Said.")
    assert after("non_finite", **{action: ("trust",)})[1] == ([], None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"on_alarm.stop": ["kl_to_high"]}, "no alarm"),
        ({"on_alarm.raise_kl": ["trust"], "algorithm.kl_coef": 0.0}, "no price of KL"),
        ({"gold": "exact", "reward": "exact"}, "the same as reward"),
        ({"gold": "judge"}, "asks the policy"),
        ({"gold": "python"}, "put it in a file"),
    ],
)
def test_what_cannot_follow_or_be_watched_is_named(settings, said, tmp_path):
    base = {"model": "scratch:24x1", "data": "task:sorting", "run": str(tmp_path / "run")}
    with pytest.raises(UserError, match=said):
        check_recipe(load_recipe("grpo", {**base, "reward": "agreement", **settings}))
