"""Each alarm rings on a history planted for it, once, and no alarm on a healthy one."""

import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backflip.monitor.alarms import CALM, Alarms
from backflip.monitor.rules.answers import EntropyCollapse, RewardHacking
from backflip.monitor.rules.base import slope
from backflip.monitor.rules.shared import KLTooHigh
from backflip.monitor.views import view_of
from tests.monitor.folders import entries

STEPS = 60


def healthy(seed, steps=STEPS):
    """A PPO run as one would wish it: reward and held-out reward rise, the rest hardly moves."""
    noise = random.Random(seed).gauss
    rise = [1 - math.exp(-i / 20) for i in range(steps)]
    return {
        "reward": [p + noise(0, 0.1) for p in rise],
        "reward_heldout": [0.7 * p + noise(0, 0.1) for p in rise],
        "reward_std": [1 - 0.3 * p + noise(0, 0.05) for p in rise],
        "kl": [8 * p + noise(0, 0.3) for p in rise],
        "entropy": [2.2 - 0.8 * p + noise(0, 0.05) for p in rise],
        "length": [30 + 8 * p + noise(0, 2) for p in rise],
        "finished": [0.5 + 0.4 * p for p in rise],
        "unique_tokens": [0.4 - 0.08 * p + noise(0, 0.01) for p in rise],
        "duplicate_answers": [abs(noise(0, 0.03)) for _ in rise],
        "score_length_corr": [0.2 + noise(0, 0.2) for _ in rise],
        "policy_loss": [noise(0, 0.01) for _ in rise],
        "value_loss": [1 - 0.5 * p for p in rise],
        "grad_norm": [1.0 for _ in rise],
    }


def rules(stage="online", kl_stop=None):
    return view_of(stage).rules(kl_stop, 0)


def ring(history, watched=None):
    """(step, name) of every alarm while a run goes on."""
    alarms = Alarms(watched or rules())
    fired = [a for end in range(1, len(history) + 1) for a in alarms.check(history[:end])]
    return [(alarm.step, alarm.name) for alarm in fired]


def ramp(start, end, steps=STEPS):
    return [start + (end - start) * i / (steps - 1) for i in range(steps)]


HALF = STEPS // 2
PLANTED = {
    "kl_too_high": {"kl": ramp(0, 40)},
    "mode_collapse_words": {"unique_tokens": ramp(0.5, 0.05)},
    "mode_collapse_entropy": {"entropy": ramp(2.0, 0.05)},
    "mode_collapse_duplicates": {"duplicate_answers": ramp(0.0, 0.9)},
    "answers_cut_off": {"finished": ramp(0.6, 0.0)},
    "length_drift": {"length": ramp(30, 120)},
    "length_rewarded": {"score_length_corr": ramp(0.1, 0.95)},
    "non_finite": {"policy_loss": [0.1] * HALF + [math.nan] + [0.1] * (HALF - 1)},
}


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_run_is_silent(seed):
    assert ring(entries(**healthy(seed))) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_rings_its_own_alarm_once(name):
    fired = [alarm for _, alarm in ring(entries(**healthy(1) | PLANTED[name]))]
    assert fired == [name]


@pytest.mark.parametrize("name", ["mode_collapse_words", "mode_collapse_duplicates"])
def test_right_answers_to_checked_questions_may_be_alike(name):
    """Where a program gives verdicts, many right answers are few answers."""
    checked = PLANTED[name] | {"reward_correct": ramp(0.0, 0.9)}
    assert ring(entries(**healthy(0) | checked)) == []


@pytest.mark.parametrize(("share", "fired"), [(0.9, 0), (0.2, 1)])
def test_entropy_may_fall_where_answers_become_right_and_not_where_they_stay_wrong(share, fired):
    checked = PLANTED["mode_collapse_entropy"] | {"reward_correct": ramp(0.0, share)}
    checked["reward_correct"] = [max(x, share * 0.8) for x in checked["reward_correct"]]
    assert len(ring(entries(**healthy(0) | checked))) == fired


@pytest.mark.parametrize("drift", [0.0, -0.5])
def test_reward_up_while_heldout_reward_is_flat_or_falls_is_hacking(drift):
    noise = random.Random(5).gauss
    columns = healthy(5)
    columns["reward"] = [y + noise(0, 0.05) for y in ramp(0, 3)]
    columns["reward_heldout"] = [y + noise(0, 0.05) for y in ramp(0.3, 0.3 + drift)]
    fired = [name for _, name in ring(entries(**columns))]
    assert sorted(fired) == ["heldout_lags", "reward_hacking"]


def test_heldout_reward_measured_every_fifth_step_still_counts():
    columns = healthy(6, steps=150)
    columns["reward"] = ramp(0, 3, 150)
    columns["reward_heldout"] = [0.3 if i % 5 == 0 else None for i in range(150)]
    fired = ring(entries(**columns), [RewardHacking()])
    assert [name for _, name in fired] == ["reward_hacking"]
    assert fired[0][0] >= 20 * 5 - 4


def test_noise_alone_is_not_hacking():
    """Two flat, noisy rewards: a false alarm in fewer than 1 of 20 runs of 60 steps."""
    false = 0
    for seed in range(60):
        noise = random.Random(seed).gauss
        columns = {k: [noise(0, 0.3) for _ in range(60)] for k in ("reward", "reward_heldout")}
        false += bool(ring(entries(**columns), [RewardHacking()]))
    assert false <= 3


@pytest.mark.parametrize(
    ("stage", "columns"),
    [
        ("reward_model", {"score_mean": ramp(0, 300)}),
        ("reward_model", {"score_mean": ramp(0, -300)}),
        ("reward_model", {"score_mean": [0.1] * 9, "score_std": [0.9] * 3 + [1e-5] * 6}),
        ("online", {"reward": [1.0] * 9, "reward_std": [0.0] * 9}),
    ],
)
def test_scores_that_run_away_or_are_all_the_same_are_saturated(stage, columns):
    fired = ring(entries(stage, **columns), rules(stage))
    assert [name for _, name in fired] == ["score_saturation"]


def test_one_batch_without_spread_is_not_saturation():
    history = entries(score_mean=[0.1] * 9, score_std=[1.0] * 4 + [0.0] + [1.0] * 4)
    assert ring(history, rules("reward_model")) == []


@pytest.mark.parametrize("stage", ["sft", "reward_model", "direct", "online"])
def test_the_third_non_finite_step_in_a_row_asks_to_stop(stage):
    history = entries(loss=[1.0, math.nan, 1.0, math.nan, math.nan, math.nan, 1.0])
    alarms = Alarms(rules(stage))
    fired = [a for end in range(1, 8) for a in alarms.check(history[:end])]
    assert [(a.step, a.severity) for a in fired] == [(2, "warn"), (6, "stop")]


def test_kl_stops_a_run_only_where_that_was_asked_for():
    history = entries(kl=ramp(0, 100))
    for stop, expected in ((None, ["warn"]), (50.0, ["warn", "stop"])):
        alarms = Alarms(rules(kl_stop=stop))
        fired = [a for end in range(1, 61) for a in alarms.check(history[:end])]
        assert [a.severity for a in fired] == expected


@pytest.mark.parametrize(("stop", "kl"), [(20.0, 21.0), (10.0, 25.0)])
def test_a_warning_does_not_ring_together_with_the_stop(stop, kl):
    fired = Alarms(rules(kl_stop=stop)).check(entries(kl=[kl]))
    assert [a.severity for a in fired] == ["stop"]


def test_an_alarm_rings_again_only_after_a_real_recovery():
    """Just under the limit is no recovery, however long; far under it is, after a few steps."""
    up, dancing, close, down = [21.0], [19.5, 20.5] * 5, [19.0] * 9, [10.0] * CALM
    history = entries(kl=up + dancing + close + up + down + up)
    fired = ring(history, [KLTooHigh(limit=20.0)])
    assert fired == [(1, "kl_too_high"), (len(history), "kl_too_high")]


def test_steps_that_did_not_measure_do_not_end_an_alarm():
    history = entries(kl=[25.0, None, None, None, None, 25.0], reward=[0.0] * 6)
    assert ring(history, [KLTooHigh()]) == [(1, "kl_too_high")]


def test_stages_are_watched_apart():
    """The short answers of a second stage are no drift from the long ones of the first."""
    history = entries("a", length=[100.0] * 20) + entries("b", length=[10.0] * 20)
    assert ring(history) == []


@given(st.lists(st.floats(0, 60) | st.none(), min_size=1, max_size=40), st.data())
@settings(max_examples=60, deadline=None)
def test_replaying_a_history_gives_the_memory_of_having_lived_it(kl, data):
    history = entries(kl=kl)
    cut = data.draw(st.integers(0, len(history)))
    lived, replayed = Alarms(rules()), Alarms(rules())
    for end in range(1, cut + 1):
        lived.check(history[:end])
    replayed.replay(history[:cut])
    for end in range(cut + 1, len(history) + 1):
        assert lived.check(history[:end]) == replayed.check(history[:end])


def test_check_is_pure():
    history = entries(kl=[1.0, 30.0])
    first, second = KLTooHigh().check(history), KLTooHigh().check(history)
    assert first == second
    assert first is not None
    assert "30.0 nats" in first.sentence
    assert KLTooHigh().check([]) is None


def test_slope_and_its_error_by_hand():
    """y = 0, 1, 1, 2: slope 0.6, residuals −0.1, 0.3, −0.3, 0.1, so s² = 0.2/2 over Σ(x−x̄)² = 5."""
    gradient, error = slope([0.0, 1.0, 1.0, 2.0])
    assert gradient == pytest.approx(0.6)
    assert error == pytest.approx(math.sqrt(0.1 / 5))


@given(st.floats(1e-5, 0.2), st.floats(0.001, 1.5), st.floats(0, 0.24))
def test_what_an_alarm_says_holds_of_the_numbers_it_prints(past, start, share):
    """Just past a threshold, and where both numbers are nearly nothing."""
    found = KLTooHigh().check(entries(kl=[20.0 + past]))
    if found is not None:
        assert float(re.search(r"is ([\d.]+) nats", found.sentence)[1]) > 20
    fall = EntropyCollapse().check(entries(entropy=[start] * 5 + [start * share] * 5))
    if fall is not None:
        then, now = re.search(r"from ([\d.]+) to ([\d.]+) nats", fall.sentence).groups()
        assert float(then) > float(now)
