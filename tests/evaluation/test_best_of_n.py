"""The best of n, and its curve, against hand-made scores."""

from __future__ import annotations

import math

import pytest
import torch

from backflip.data.ragged import Ragged
from backflip.errors import UserError
from backflip.evaluation.best_of_n import best_of_n, best_of_n_curve, pick_best
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.reward.protocol import Judgement
from backflip.sampling.samples import Scoring
from tests.evaluation.test_win_rate import sampled
from tests.models.families import tiny


def mean_token(rollouts):
    return Judgement(torch.tensor([float(a.float().mean()) for a in rollouts.steps.answer.rows()]))


def test_the_best_of_each_prompt_is_picked():
    group = torch.tensor([4, 4, 1, 1, 4, 9])
    scores = torch.tensor([1.0, math.nan, 2.0, 3.0, 1.0, math.nan])
    assert pick_best(group, scores).tolist() == [3, 0]


def test_best_of_n_answers_are_the_samplers_own():
    params = SamplingParams(max_tokens=5, stop_tokens=(2, 5))
    sampler = Sampler(engine=TorchEngine(tiny("llama")), params=params, group_size=4)
    prompts = Ragged.of([[1, 9], [1, 8, 7]])
    picked = best_of_n(sampler, mean_token, prompts, seed=3)
    drawn = sampler(prompts, seed=3)
    scores = mean_token(drawn).scores.view(2, 4)
    torch.testing.assert_close(picked.answers.scores, scores.max(1).values)
    for row, best in enumerate(scores.argmax(1).tolist()):
        own = drawn.steps.answer.row(4 * row + best)
        assert torch.equal(picked.answers.rollouts.steps.answer.row(row), own)
    assert picked.unjudged == ()


def test_the_curve_is_the_mean_over_draws_and_over_prompts():
    """Of 0, 1, 2 the best of two is 1, 2, 2 in its three draws; of 5, 5, 5 always 5."""
    scoring = Scoring(
        sampled([0.0, 1.0, 2.0], [5.0, 5.0, 5.0]),
        {"heldout": torch.tensor([3.0, 0.0, 6.0, 1.0, 2.0, 3.0])},
    )
    one, two, three = best_of_n_curve(scoring, sizes=[1, 2, 3])
    assert one.reward.estimate == pytest.approx((1 + 5) / 2)
    assert two.reward.estimate == pytest.approx((5 / 3 + 5) / 2)
    assert three.reward.estimate == pytest.approx((2 + 5) / 2)
    assert two.parts["heldout"].estimate == pytest.approx(((0 + 6 + 6) / 3 + 2) / 2)
    assert one.kl == 0
    assert two.kl == pytest.approx(math.log(2) - 0.5)
    assert two.reward.low < 5 / 3 < 5 < two.reward.high
    assert two.reward.units == 2
    assert two.to_json()["reward_heldout"] == pytest.approx(3.0)


def test_prompts_with_too_few_scores_are_left_out_of_larger_n():
    scoring = Scoring(sampled([0.0, 1.0, 2.0], [5.0, math.nan, math.nan]))
    points = best_of_n_curve(scoring)
    assert [(point.n, point.prompts) for point in points] == [(1, 2), (2, 1), (3, 1)]
    assert points[2].reward.estimate == 2.0


def test_more_than_was_drawn_is_refused():
    with pytest.raises(UserError, match=r"sizes \[4\] must lie between 1 and 3"):
        best_of_n_curve(Scoring(sampled([0.0, 1.0, 2.0])), sizes=[4])
    with pytest.raises(UserError, match="no answer has a score"):
        best_of_n_curve(Scoring(sampled([math.nan])))
