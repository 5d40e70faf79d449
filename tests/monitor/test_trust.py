"""Alarms about the reward itself ring where its meaning is lost, and the report says when first."""

from __future__ import annotations

import json
import random

import pytest

from backflip.monitor.alarms import Alarms, trust_lost
from backflip.monitor.folder import read_run
from backflip.monitor.log import Alarm, MetricsLog
from backflip.monitor.report import render, sentences
from backflip.monitor.rules.trust import GoldFell
from backflip.monitor.views import view_of
from tests.monitor.folders import entries
from tests.monitor.test_alarms import healthy, ramp, ring

PLANTED = {
    "ensemble_disagrees": {"reward_spread": ramp(0.2, 0.9)},
    "heavy_tails": {"error_tail": ramp(0.2, 0.9)},
    "canary_wins": {
        "val_canary_own": ramp(0.0, 1.0),
        "val_canary_empty": ramp(-1.0, 1.5),
        "val_canary_repeated": [-1.0] * 60,
    },
    "prompt_ignored": {"val_canary_own": ramp(1.0, 2.0), "val_canary_swapped": ramp(0.0, 2.0)},
    "one_piece": {"val_one_piece": ramp(0.3, 0.8)},
    "features_far": {"val_feature_distance": ramp(1.0, 9.0)},
    "refusals": {"val_refusals": ramp(0.0, 0.5)},
    "repetition": {"repetition": ramp(0.05, 0.6)},
    "boilerplate": {"boilerplate": ramp(0.0, 0.6)},
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_rings_its_own_alarm_once(name):
    assert [alarm for _, alarm in ring(entries(**healthy(2) | PLANTED[name]))] == [name]


@pytest.mark.parametrize("seed", range(10))
def test_a_gold_that_follows_is_silent_and_one_that_falls_is_not(seed):
    noise = random.Random(seed).gauss
    rises = [y + noise(0, 0.02) for y in ramp(0.2, 0.8)]
    falls = [y + noise(0, 0.02) for y in [*ramp(0.2, 0.6, 30), *ramp(0.6, 0.3, 30)]]
    assert ring(entries(**healthy(seed) | {"gold": rises})) == []
    fired = ring(entries(**healthy(seed) | {"gold": falls}))
    assert [name for _, name in fired] == ["gold_fell"]
    assert fired[0][0] > 30


def test_a_gold_that_is_not_there_at_a_step_says_nothing():
    history = entries(gold=[0.5] * 30 + [float("nan")] * 10, reward=[0.0] * 40)
    assert Alarms([GoldFell()]).check(history) == []


def test_trust_is_lost_at_the_first_alarm_about_the_reward():
    told = [
        {"name": "non_finite", "step": 1},
        {"name": "heldout_lags", "step": 30},
        {"name": "gold_fell", "step": 20},
    ]
    assert trust_lost(told) == told[2]
    assert trust_lost(told, gold=False) == told[1]
    assert trust_lost(told[:1]) is None


def test_every_alarm_that_trust_names_is_one_of_the_view():
    from backflip.monitor.alarms import TRUST

    assert {rule.name for rule in view_of("online").rules(20.0, 0)} >= TRUST


def test_the_report_names_the_step_and_draws_gold_over_distance(tmp_path):
    log = MetricsLog(tmp_path)
    for step in range(1, 61):
        kl = step / 10
        d = kl**0.5
        numbers = {"kl": kl, "reward": step / 20, "gold": 0.3 + 0.3 * d - 0.12 * d * d}
        log.append(step, "online", numbers)
    log.alarms([Alarm(20, "heldout_lags", "warn", "Most of the gain is not confirmed.", "online")])
    log.close()
    said = " ".join(sentences(read_run(tmp_path)))
    assert "lost first at step 20, 2.0 nats away" in said
    assert "fitted curve is highest at d = " in said
    assert "Gold over distance" in render(tmp_path)


def test_the_laboratory_says_where_best_of_n_turned_and_draws_it(tmp_path):
    points = [{"estimate": g, "low": g - 0.03, "high": g + 0.03} for g in (0.6, 0.7, 0.5)]
    curve = {"form": "best_of_n", "turned": True, "farthest": 1.8}
    curve |= {"alpha": [0.3, 0.2, 0.4], "beta": [0.2, 0.1, 0.3], "peak": [0.75, 0.7, 0.8]}
    chosen = {"n": [1, 2, 8], "d": [0.0, 0.4, 1.2], "gold": points, "proxy": points, "curve": curve}
    course = {"d": [0.0, 1.0], "gold": [0.6, 0.5], "proxy": [0.0, 1.0], "peak_d": 0.0, "alarms": []}
    course |= {"curve": None, "rose": None, "fell": None, "alarm_d": None, "best": None}
    summary = {"weak": "labels_9", "proxies": {"labels_9": {}}, "best_of_n": {"labels_9": chosen}}
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"courses": {"labels_9": course}}))
    log = MetricsLog(tmp_path)
    log.append(1, "overoptimization", {"gold": 0.5, "kl": 1.0})
    log.close()
    said = " ".join(sentences(read_run(tmp_path)))
    assert "from 0.600 of one answer to 0.700 of the best of 2 and 0.500 of the best of 8" in said
    assert "highest at d = 0.75 √nats (95 % interval 0.70 to 0.80)" in said
    assert "No counted alarm rang." in said
    assert "Gold, best of n" in render(tmp_path)
