"""Intervals of rewards and accuracies on held-out questions: one method, within known bounds."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from backflip.reward.protocol import Judgement
from backflip.reward.shaping import Shaping
from backflip.reward.verifiers.exact import Exact
from backflip.reward.verifiers.http import HTTP
from backflip.stages.accuracy import Accuracy
from backflip.stages.prompt_eval import Answers, EvalResult
from backflip.stages.rewards.mix import MixOfRewards


def result(scores: torch.Tensor, each: int, bounds: tuple[float, float] | None) -> EvalResult:
    answers = Answers(cast("Any", None), torch.zeros(len(scores)), [], each)
    return EvalResult(answers, Judgement(scores), bounds=bounds)


def test_an_accuracy_and_the_reward_of_the_same_verdicts_have_one_interval():
    generator = torch.Generator().manual_seed(0)
    ease = torch.rand(162, 1, generator=generator)
    right = (torch.rand(162, 4, generator=generator) < ease).float()
    accuracy = Accuracy(right, [["a"] * 4] * 162).summary()["pass_at_1"]
    reward = result(right.reshape(-1), 4, (0.0, 1.0)).reward()
    assert (reward.estimate, reward.low, reward.high, reward.units) == tuple(accuracy.values())
    halves = result(2 * right.reshape(-1) - 1, 4, (-1.0, 1.0)).reward()
    assert halves.low == pytest.approx(2 * reward.low - 1)
    assert halves.high == pytest.approx(2 * reward.high - 1)


@pytest.mark.parametrize("scores", [[0.0, 1.0, 1.0, 0.0], [0.5, 1.0, 1.0, 0.9], [1.0] * 4])
def test_no_interval_of_four_prompts_leaves_what_a_reward_can_be(scores: list[float]):
    found = result(torch.tensor(scores), 1, (0.0, 1.0)).reward()
    assert 0.0 <= found.low < found.estimate <= found.high <= 1.0
    assert found.high - found.low > 0.3, "four prompts are few"


def test_scores_beyond_the_bounds_are_believed_and_not_the_bounds():
    assert result(torch.tensor([0.0, 3.0, 1.0]), 1, (0.0, 1.0)).reward().estimate > 1


def test_the_bounds_of_a_reward_are_those_of_its_settings():
    exact = Exact(incorrect=-0.5)
    assert exact.bounds == (-0.5, 1.0)
    assert MixOfRewards(terms=(exact, Exact()), weights=(2.0, -1.0)).bounds == (-2.0, 2.0)
    assert MixOfRewards(terms=(exact, HTTP()), weights=(1.0, 1.0)).bounds is None
    assert MixOfRewards(terms=(exact,), weights=(1.0,), whiten=True).bounds is None
    assert Shaping(missing_eos=-1.0).bounds((0.0, 1.0), cut=True) == (-1.0, 1.0)
    assert Shaping(missing_eos=-1.0).bounds((0.0, 1.0), cut=False) == (0.0, 1.0)
    assert Shaping(clip=0.5, overlong_buffer=8).bounds((0.0, 1.0), cut=False) == (-1.0, 0.5)
    assert Shaping(length_penalty=0.1).bounds((0.0, 1.0), cut=False) is None
