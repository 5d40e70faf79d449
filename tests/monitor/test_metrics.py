import math

import pytest
import torch

from backflip.data.batches import Experience, Rollouts, Scored, TokenSteps
from backflip.functional.credit import at_end
from backflip.monitor import metrics


def scored(answers, logp, ref, scores, groups, finished=None):
    steps = TokenSteps.of([[1]] * len(answers), answers)
    rollouts = Rollouts(
        steps=steps,
        mask=steps.mask,
        logp=logp,
        group=torch.tensor(groups),
        finished=torch.tensor(finished or [True] * len(answers)),
    )
    return Scored(
        rollouts, at_end(torch.tensor(scores), rollouts.mask), logp, ref, torch.zeros_like(logp)
    )


def test_metrics_of_two_answers_by_hand():
    """Behind the end of the short answer stands NaN: nothing there may count."""
    logp = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, math.nan, math.nan]])
    ref = torch.tensor([[-1.5, -2.0, -4.0], [-3.0, math.nan, math.nan]])
    found = metrics.scored_metrics(
        scored([[5, 6, 5], [7]], logp, ref, [1.0, 3.0], [0, 1], finished=[True, False])
    )
    k3 = [math.exp(-0.5) - 0.5, math.exp(-1.0), math.exp(1.0) - 2.0]
    assert found["reward"] == 2.0
    assert found["reward_std"] == 1.0
    assert found["kl"] == pytest.approx(((0.5 + 0 + 1) + -1) / 2)
    assert found["kl_k3"] == pytest.approx(sum(k3) / 2, rel=1e-5)
    assert found["entropy"] == pytest.approx(10 / 4)
    assert found["length"] == 2.0
    assert found["finished"] == 0.5
    assert found["score_length_corr"] == pytest.approx(-1.0)
    assert found["unique_tokens"] == pytest.approx(3 / 4)


def test_what_is_not_defined_is_left_out_but_a_broken_score_is_not():
    logp = torch.zeros(2, 2)
    found = metrics.scored_metrics(scored([[1, 2]] * 2, logp, logp, [math.nan, 1.0], [0, 1]))
    assert "score_length_corr" not in found
    assert "distinct_2_within" not in found
    assert math.isnan(found["reward"])


def test_diversity_within_a_prompt_differs_from_diversity_across_prompts():
    """Each prompt always gets the same answer: no variety within, some across (Kirk, 2023)."""
    collapsed = metrics.diversity_metrics([[1, 2, 3]] * 2 + [[4, 5, 6]] * 2, [0, 0, 1, 1])
    assert collapsed["distinct_2"] == 0.5
    assert collapsed["distinct_2_within"] == 0.5
    assert collapsed["duplicate_answers"] == 0.5
    varied = metrics.diversity_metrics([[1, 2, 3], [4, 5, 6]] * 2, [0, 0, 1, 1])
    assert varied["distinct_2"] == 0.5
    assert varied["distinct_2_within"] == 1.0


def test_explained_variance_is_one_for_a_prophet_zero_for_a_constant_negative_for_worse():
    returns = torch.tensor([[1.0, 2.0], [3.0, 99.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert metrics.explained_variance(returns, returns, mask) == 1.0
    assert metrics.explained_variance(torch.full((2, 2), 7.0), returns, mask) == pytest.approx(0.0)
    assert metrics.explained_variance(-returns, returns, mask) == pytest.approx(-3.0)
    assert math.isnan(metrics.explained_variance(returns, torch.ones(2, 2), mask))


def test_critic_metrics_appear_only_where_a_critic_is_taught():
    batch = scored([[1, 2]] * 2, torch.zeros(2, 2), torch.zeros(2, 2), [0.0, 1.0], [0, 0])
    advantages = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    without = metrics.experience_metrics(Experience(batch, advantages, torch.zeros(2, 2)))
    taught = metrics.experience_metrics(Experience(batch, advantages, advantages))
    assert "explained_variance" not in without
    assert taught["explained_variance"] == pytest.approx(0.0)
    assert taught["advantage_std"] == 1.0


def test_group_spread_looks_within_prompts_only():
    scores = torch.tensor([1.0, 3.0, 10.0, 10.0, 50.0])
    assert metrics.group_spread(scores, torch.tensor([0, 0, 1, 1, 2])) == pytest.approx(0.5)
    assert math.isnan(metrics.group_spread(scores, torch.arange(5)))
