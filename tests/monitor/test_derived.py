"""Metrics that are made of sums, and the titles of stages."""

import math
import random

import pytest

from backflip.functional.statistics import pearson
from backflip.monitor.metrics import derived
from backflip.monitor.views import title


def moments(rewards, lengths, prefix=""):
    n, rows = len(rewards), list(zip(rewards, lengths, strict=True))
    sums = {
        "reward": sum(rewards),
        "length": sum(lengths),
        "reward_2": sum(r * r for r in rewards),
        "length_2": sum(x * x for x in lengths),
        "reward_length": sum(r * x for r, x in rows),
    }
    return {f"{prefix}moment_{name}": total / n for name, total in sums.items()}


@pytest.mark.parametrize("prefix", ["", "val_"])
def test_five_moments_become_the_correlation_of_the_rows(prefix):
    noise = random.Random(0)
    lengths = [noise.randint(1, 300) for _ in range(40)]
    rewards = [0.01 * x + noise.gauss(0, 1) for x in lengths]
    made = derived({"loss": 1.0, **moments(rewards, lengths, prefix)})
    assert made.keys() == {"loss", f"{prefix}length_reward_correlation"}
    assert made[f"{prefix}length_reward_correlation"] == pytest.approx(pearson(rewards, lengths))


def test_moments_of_pieces_add_up_to_those_of_the_whole():
    """Two micro-batches, of 1 and 3 answers: their weighted mean is what the batch logs."""
    rewards, lengths = [0.3, -1.0, 2.0, 0.1], [5, 9, 2, 7]
    first, second = moments(rewards[:1], lengths[:1]), moments(rewards[1:], lengths[1:])
    whole = {name: (first[name] + 3 * second[name]) / 4 for name in first}
    said = derived(whole)["length_reward_correlation"]
    assert said == pytest.approx(pearson(rewards, lengths))


@pytest.mark.parametrize(
    ("rewards", "lengths"),
    [([0.0, 0.0, 0.0], [3, 4, 5]), ([0.1, 0.2, 0.3], [7, 7, 7]), ([0.1] * 3, [3, 4, 5])],
)
def test_without_spread_there_is_no_correlation(rewards, lengths):
    """0.1 has no exact binary form: what is left of the variance is rounding."""
    assert derived(moments(rewards, lengths)) == {}


def test_a_reward_that_is_not_a_number_has_no_correlation():
    assert derived(moments([math.nan, 1.0], [3, 4])) == {}


def test_a_perfect_correlation_does_not_exceed_one():
    said = derived(moments([0.1 * x for x in (3, 7, 8)], [3, 7, 8]))["length_reward_correlation"]
    assert said == pytest.approx(1.0)
    assert said <= 1.0


def test_a_mean_square_becomes_a_standard_deviation():
    """Scores 1 and 3: mean 2, mean square 5, variance 1."""
    assert derived({"val_score_mean": 2.0, "val_score_mean_square": 5.0}) == {
        "val_score_mean": 2.0,
        "val_score_std": 1.0,
    }


@pytest.mark.parametrize(
    ("stage", "objective", "said"),
    [
        ("direct", "dpo", "DPO"),
        ("direct", "simpo", "SimPO"),
        ("direct", "apo_zero", "APO zero"),
        ("direct", "robust_dpo", "Robust DPO"),
        ("direct", "", "Direct"),
        ("reward_model", "bradley_terry", "Reward model"),
        ("ppo", "", "PPO"),
        ("ppo", "one_step_ppo", "One-step PPO"),
        ("online", "one_step_ppo", "One-step PPO"),
        ("iterative", "", "Round by round"),
        ("a_stage_to_come", "", "A stage to come"),
    ],
)
def test_a_stage_is_called_by_its_algorithm_where_that_sets_it_apart(stage, objective, said):
    assert title(stage, objective) == said
