"""Canary answers are what they say, and a judge that is taken in by them is seen."""

from __future__ import annotations

import pytest
import torch

from backflip.data.batches import Rollouts, TokenSteps
from backflip.reward.protocol import Judgement
from backflip.stages.probes import feature_distance, features, probed

END = 9


def rollouts(prompts, answers):
    steps = TokenSteps.of(prompts, answers)
    shape = (len(answers), steps.width)
    finished = torch.ones(len(answers), dtype=torch.bool)
    return Rollouts(steps, steps.mask, torch.zeros(shape), torch.arange(len(answers)), finished)


ASKED = rollouts([[1], [2], [3]], [[1, 5, END], [2, 6, END], [3, 7, END]])


def on_topic(given: Rollouts) -> Judgement:
    """1 where the answer begins with its prompt's token, and ½ for each 5."""
    rows = zip(given.steps.prompt.rows(), given.steps.answer.rows(), strict=True)
    scores = [float(p[0] == a[0]) + 0.5 * float((a == 5).sum()) for p, a in rows]
    return Judgement(torch.tensor(scores))


def test_each_canary_is_judged_with_its_own_prompt():
    found = probed(on_topic, ASKED, each=1)
    assert found["val_canary_own"] == pytest.approx(1 + 0.5 / 3)
    assert found["val_canary_swapped"] == pytest.approx(0.5 / 3)
    assert found["val_canary_empty"] == 0
    assert found["val_canary_repeated"] == 1  # its first token, which is the prompt's


def test_the_share_of_the_largest_piece():
    """1, 1.5, 1.5 as the first answer is read on: one step; the others never change."""
    assert probed(on_topic, ASKED, each=1)["val_one_piece"] == 1.0
    even = probed(lambda r: Judgement(r.steps.answer.lengths.float()), ASKED, each=1)
    assert even["val_one_piece"] == 0.5


def test_too_few_answers_that_ended_say_nothing():
    cut = rollouts([[1], [2]], [[1, 5, END], [2]])
    assert probed(on_topic, cut, each=1) == {}


def test_distance_is_1_at_the_start_and_grows_with_the_square_of_a_shift():
    torch.manual_seed(0)
    start = torch.randn(4000, 3) * torch.tensor([1.0, 5.0, 0.0])
    assert feature_distance(start, start) == pytest.approx(1.0)
    moved = start + torch.tensor([2.0, 10.0, 0.0])
    assert feature_distance(moved, start) == pytest.approx(5.0, rel=0.05)


def test_features_are_found_behind_whatever_stands_around_a_reward_model():
    class Model:
        def features(self, rollouts):
            return torch.ones(len(rollouts), 2)

    class Around:
        def __init__(self, **inner):
            self.__dict__ |= inner

    assert features(Around(source=Around(members=[Model()])), ASKED) is not None
    assert features(on_topic, ASKED) is None
