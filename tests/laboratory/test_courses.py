"""Courses read off logs that were written by hand: peak, fall, and the alarm before or after."""

from __future__ import annotations

import random

import pytest

from backflip.laboratory.courses import Course
from backflip.laboratory.labels import resampled, with_noise
from backflip.monitor.log import Alarm, MetricsLog

STEPS = 100


def run(folder, *, gold, alarms=(), proxy="gold"):
    """A run whose KL grows by a tenth of a nat each step."""
    noise, log = random.Random(0).gauss, MetricsLog(folder)
    for step in range(1, STEPS + 1):
        numbers = {"kl": step / 10, "reward": step / 50, "reward_unshaped": step / 40}
        log.append(step, "online", numbers | {"gold": gold(step) + noise(0, 0.01)})
    log.alarms(Alarm(step, name, "warn", "Said.", "online") for step, name in alarms)
    log.close()
    return Course.of(folder)


def hill(step):
    return 0.5 + 0.004 * min(step, 50) - 0.004 * max(step - 50, 0)


def test_the_peak_is_where_gold_turns_and_both_sides_are_beyond_chance(tmp_path):
    course = run(tmp_path, gold=hill)
    assert course.points[0][course.peak] ** 2 == pytest.approx(5.0, abs=0.8)
    assert course.rose.low > 0.1
    assert course.fell.high < -0.1
    assert course.proxy[-1] == pytest.approx(STEPS / 40)


@pytest.mark.parametrize(("step", "in_time"), [(20, True), (52, True), (80, False), (None, False)])
def test_an_alarm_is_in_time_up_to_a_tenth_beyond_the_peaks_kl(tmp_path, step, in_time):
    alarms = () if step is None else ((step, "heldout_lags"),)
    course = run(tmp_path, gold=hill, alarms=alarms)
    assert course.in_time is in_time


def test_an_alarm_that_saw_the_gold_does_not_count(tmp_path):
    course = run(tmp_path, gold=hill, alarms=((20, "gold_fell"), (60, "non_finite")))
    assert course.first_alarm is None


def test_where_gold_did_not_fall_no_alarm_is_in_time_or_late(tmp_path):
    assert run(tmp_path, gold=lambda step: step / 100).in_time is None


def test_noise_flips_exactly_its_share_and_keeps_the_rest():
    rows = [{"prompt": n, "chosen": "a", "rejected": "b"} for n in range(50)]
    noisy = with_noise(rows, 0.3, seed=1)
    assert sum(row["chosen"] == "b" for row in noisy) == 15
    assert all({row["chosen"], row["rejected"]} == {"a", "b"} for row in noisy)
    assert [row["prompt"] for row in noisy] == list(range(50))
    assert noisy == with_noise(rows, 0.3, seed=1) != with_noise(rows, 0.3, seed=2)
    assert len(resampled(rows, 0)) == 50 > len({row["prompt"] for row in resampled(rows, 0)})
