"""The alarms of the direct family: each rings on a planted history, none on a healthy one."""

import math
import random

import pytest

from backflip.monitor.alarms import Alarms
from backflip.monitor.views import view_of
from tests.monitor.folders import entries

STEPS = 100


def healthy(seed, steps=STEPS, pairs=8):
    """DPO as one would wish it: margins grow, chosen answers lose a nat or two."""
    noise = random.Random(seed).gauss
    rise = [1 - math.exp(-i / 30) for i in range(steps)]
    error = 1 / math.sqrt(pairs)
    change = [-1.5 * p + noise(0, 4 * p * error) for p in rise]
    margin = [0.8 * p + noise(0, p * error) for p in rise]
    return {
        "loss": [0.69 - 0.2 * p for p in rise],
        "accuracy": [min(max(0.5 + 0.2 * p + noise(0, 0.5 * error), 0.0), 1.0) for p in rise],
        "margin": margin,
        "separated": [min(max(0.3 * p + noise(0, 0.4 * p * error), 0.0), 1.0) for p in rise],
        "logp_change_chosen": change,
        "logp_change_rejected": [c - 10 * m for c, m in zip(change, margin, strict=True)],
        "length_reward_correlation": [
            max(min(-0.2 + noise(0, 1 / math.sqrt(2 * pairs - 1)), 1.0), -1.0) for _ in rise
        ],
        "val_sampled_kl": [3 * p if i % 25 == 24 else None for i, p in enumerate(rise)],
        "grad_norm": [1.0 for _ in rise],
    }


def alarms_of(columns, steps=STEPS):
    history = entries("direct", **columns)
    alarms = Alarms(view_of("direct").rules(None, steps))
    return [a for end in range(1, len(history) + 1) for a in alarms.check(history[:end])]


def ring(columns, steps=STEPS):
    return [(alarm.step, alarm.name) for alarm in alarms_of(columns, steps)]


def ramp(start, end, steps=STEPS):
    return [start + (end - start) * i / (steps - 1) for i in range(steps)]


def noisy(values, std, seed=3):
    noise = random.Random(seed).gauss
    return [v + noise(0, std) for v in values]


PLANTED = {
    "likelihood_displacement": {"logp_change_chosen": noisy(ramp(0, -20), 2)},
    "implicit_reward_follows_length": {"length_reward_correlation": noisy([-0.7] * STEPS, 0.15)},
    "pairs_separated": {"separated": [min(v, 1.0) for v in ramp(0.1, 1.5)]},
    "kl_too_high": {"val_sampled_kl": [30.0 if i % 25 == 24 else None for i in range(STEPS)]},
    "non_finite": {"loss": [0.6] * 50 + [math.nan] + [0.6] * 49},
}


@pytest.mark.parametrize("pairs", [1, 4, 8])
def test_healthy_runs_are_silent_however_small_their_batches(pairs):
    for seed in range(20):
        columns = healthy(seed, pairs=pairs)
        if pairs == 1:  # two answers correlate at 1 or −1 whatever they say
            coin = random.Random(seed)
            columns["length_reward_correlation"] = [coin.choice((-1.0, 1.0)) for _ in range(STEPS)]
        assert ring(columns) == [], seed


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_rings_its_own_alarm_once(name):
    assert [alarm for _, alarm in ring(healthy(1) | PLANTED[name])] == [name]


def test_displacement_names_what_was_lost_and_what_to_do():
    [alarm] = alarms_of(healthy(1) | {"logp_change_chosen": ramp(0, -40)})
    assert "Chosen answers became 5." in alarm.sentence or "became 6." in alarm.sentence
    for way in ("optimizer.lr", "objective.beta", "nll_coef=0.2", "apo_zero", "fewer steps"):
        assert way in alarm.sentence


def test_a_fall_of_both_without_a_gain_is_another_matter():
    """Neither margin nor accuracy rises: nothing was bought with the likelihood."""
    columns = healthy(1) | {"logp_change_chosen": ramp(0, -20)}
    columns["margin"], columns["accuracy"] = ramp(0.1, -0.5), ramp(0.6, 0.4)
    assert ring(columns) == []


def test_a_batch_or_two_of_unlikely_answers_is_no_displacement():
    change = healthy(2)["logp_change_chosen"]
    change[60:63] = [-12.0, -15.0, -11.0]
    assert ring(healthy(2) | {"logp_change_chosen": change}) == []


def test_without_a_reference_held_out_answers_are_compared_with_themselves():
    """Training batches hold other answers each time; those that validate are always the same."""
    noise = random.Random(0).gauss
    columns = healthy(3)
    for name in ("logp_change_chosen", "logp_change_rejected", "val_sampled_kl"):
        del columns[name]
    columns["logp_chosen"] = [-150 + noise(0, 40) for _ in range(STEPS)]
    columns["val_margin"] = [i / 100 if i % 10 == 9 else None for i in range(STEPS)]
    level = [-150 - 0.02 * i if i % 10 == 9 else None for i in range(STEPS)]
    assert ring(columns | {"val_logp_chosen": level}) == []
    falling = [-150 - 0.2 * i if i % 10 == 9 else None for i in range(STEPS)]
    [(step, name)] = ring(columns | {"val_logp_chosen": falling})
    assert name == "likelihood_displacement"
    assert step == 40  # steps 10 to 40: 6 nats


def test_with_a_reference_displacement_rings_once_not_twice():
    columns = healthy(1) | {"logp_change_chosen": ramp(0, -20)}
    columns["val_logp_change_chosen"] = columns["logp_change_chosen"]
    columns["val_logp_chosen"] = [-100 + c for c in columns["logp_change_chosen"]]
    columns["val_margin"] = ramp(0, 1)
    assert [name for _, name in ring(columns)] == ["likelihood_displacement"]


@pytest.mark.parametrize(("r", "which"), [(0.8, "longer"), (-0.8, "shorter")])
def test_the_sign_of_the_correlation_says_which_answers_win(r, which):
    columns = healthy(1) | {"length_reward_correlation": noisy([r] * STEPS, 0.1)}
    [alarm] = alarms_of(columns)
    assert f"{which} answers" in alarm.sentence
    assert alarm.step == 20


def test_separated_pairs_are_no_news_at_the_end_of_the_run():
    separated = [0.5] * 80 + [1.0] * 20
    assert ring(healthy(1) | {"separated": separated}) == []
    assert ring(healthy(1) | {"separated": separated}, steps=300) == [(90, "pairs_separated")]


def test_separated_pairs_say_how_much_is_to_come():
    [alarm] = alarms_of(healthy(1) | {"separated": [1.0] * STEPS}, steps=300)
    assert "100 % of the pairs are separated, and 290 of 300 steps" in alarm.sentence


def test_a_stage_of_unknown_length_is_not_told_that_much_is_to_come():
    assert ring(healthy(1) | {"separated": [1.0] * STEPS}, steps=0) == []


def test_advice_on_kl_names_settings_of_the_direct_family():
    for metric in ("val_sampled_kl", "kl"):
        [alarm] = alarms_of({metric: [25.0]})
        assert "25.0 nats" in alarm.sentence
        assert "objective.beta" in alarm.sentence
        assert "kl_coef" not in alarm.sentence


def test_only_the_direct_stage_has_these_rules():
    assert "likelihood_displacement" in {rule.name for rule in view_of("direct").rules(None, 0)}
    names = {rule.name for rule in view_of("ppo").rules(20.0, 0)}
    assert "reward_hacking" in names
    assert "likelihood_displacement" not in names
