"""Policy losses: by hand, by their gradient, and against TRL."""

import math

import pytest
import torch

from backflip.functional.policy_losses import (
    clip_fraction,
    clipped_surrogate,
    dual_clip,
    ratio,
    reinforce,
)
from backflip.functional.reductions import row_mean, sequence_mean, sequence_sum, token_mean

RATIOS = torch.tensor([1.0, 1.3, 0.7, 1.3, 0.7, 8.0])
ADVANTAGES = torch.tensor([2.0, 2.0, 2.0, -2.0, -2.0, -2.0])
OLD = torch.full((6,), -1.0)
NEW = OLD + RATIOS.log()


def test_reinforce_climbs_the_expected_reward():
    """Enumerated over three actions: the mean gradient is that of Σ π r."""
    rewards = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    logits = torch.tensor([0.1, 0.5, -0.4], dtype=torch.float64, requires_grad=True)
    logp = logits.log_softmax(0)
    loss = (logp.exp().detach() * reinforce(logp, rewards)).sum()
    climbed = torch.autograd.grad(-loss, logits, retain_graph=True)[0]
    torch.testing.assert_close(
        climbed, torch.autograd.grad((logp.exp() * rewards).sum(), logits)[0]
    )


def test_the_ratio_stays_a_number():
    far = ratio(torch.tensor([0.0, -500.0]), torch.tensor([-500.0, 0.0]))
    torch.testing.assert_close(far, torch.tensor([math.exp(20), math.exp(-20)]))


def test_the_clipped_surrogate_by_hand():
    expected = torch.tensor([-2.0, -2.4, -1.4, 2.6, 1.6, 16.0])
    torch.testing.assert_close(clipped_surrogate(NEW, OLD, ADVANTAGES), expected)


def test_clip_higher_lets_good_choices_grow_further():
    loss = clipped_surrogate(NEW, OLD, ADVANTAGES, eps_high=0.28)
    torch.testing.assert_close(loss, torch.tensor([-2.0, -2.56, -1.4, 2.6, 1.6, 16.0]))


def test_before_the_first_step_the_surrogate_is_reinforce():
    """Same gradient, whatever the clip: that is why one epoch of PPO is policy gradient."""
    logp = OLD.clone().requires_grad_()
    surrogate = torch.autograd.grad(clipped_surrogate(logp, OLD, ADVANTAGES).sum(), logp)[0]
    plain = torch.autograd.grad(reinforce(logp, ADVANTAGES).sum(), logp)[0]
    torch.testing.assert_close(surrogate, plain)


@pytest.mark.parametrize(("eps_low", "eps_high"), [(0.2, 0.2), (0.2, 0.4), (0.4, 0.2)])
def test_the_clip_fraction_counts_the_choices_without_a_gradient(eps_low, eps_high):
    eps = {"eps_low": eps_low, "eps_high": eps_high}
    logp = NEW.clone().requires_grad_()
    gradient = torch.autograd.grad(clipped_surrogate(logp, OLD, ADVANTAGES, **eps).sum(), logp)[0]
    clipped = clip_fraction(NEW, OLD, ADVANTAGES, **eps)
    torch.testing.assert_close(clipped, (gradient == 0).float())
    assert 0 <= clipped.sum() < 3


def test_the_clip_fraction_counts_what_a_dual_clip_holds_too():
    logp = NEW.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(dual_clip(logp, OLD, ADVANTAGES, cap=3.0).sum(), logp)
    clipped = clip_fraction(NEW, OLD, ADVANTAGES, cap=3.0)
    torch.testing.assert_close(clipped, (gradient == 0).float())
    assert clipped[-1] == 1


def test_a_dual_clip_bounds_what_a_bad_choice_can_cost():
    plain = clipped_surrogate(NEW, OLD, ADVANTAGES)
    capped = dual_clip(NEW, OLD, ADVANTAGES, cap=3.0)
    torch.testing.assert_close(capped[:-1], plain[:-1])
    torch.testing.assert_close(capped[-1], torch.tensor(6.0))


def test_a_dual_clip_leaves_good_choices_alone():
    torch.testing.assert_close(
        dual_clip(NEW, OLD, ADVANTAGES.abs()), clipped_surrogate(NEW, OLD, ADVANTAGES.abs())
    )


@pytest.mark.parametrize(
    ("case", "reduce"),
    [
        ("grpo/grpo", sequence_mean),
        ("grpo/bnpo", token_mean),
        ("grpo/dapo", token_mean),
        ("grpo/dr_grpo_Lmax8", lambda x, mask: sequence_sum(x, mask, length=8)),
    ],
)
def test_the_surrogate_agrees_with_trl_under_each_reduction(oracle, case, reduce):
    logp, old, mask = (oracle("grpo", name) for name in ("logp", "old", "mask"))
    advantages = oracle("grpo", "adv")[:, None].expand_as(logp)
    ours = reduce(clipped_surrogate(logp, old, advantages), mask).mean()
    torch.testing.assert_close(torch.tensor(ours), oracle(case), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("case", "whole"),
    [
        ("grpo/grpo_ga2", lambda mask: 2 * len(mask)),
        ("grpo/dapo_items40_ga2_spg4", lambda mask: 40 * 2 / 4),
    ],
)
def test_trls_loss_of_one_of_two_micro_batches_is_a_total_over_the_counts_of_all(
    oracle, case, whole
):
    """TRL's 40 tokens are those of a generation batch of four steps, of which a step has a half."""
    logp, old, mask = (oracle("grpo", name) for name in ("logp", "old", "mask"))
    advantages = oracle("grpo", "adv")[:, None].expand_as(logp)
    loss = clipped_surrogate(logp, old, advantages)
    by_answers = case == "grpo/grpo_ga2"
    total = (loss * mask).sum(1) / mask.sum(1) if by_answers else loss * mask
    torch.testing.assert_close(total.sum() / whole(mask), oracle(case), rtol=1e-5, atol=1e-7)


def test_trls_delta_within_the_clip_is_a_tighter_clip_of_good_choices_alone(oracle):
    """It is 1.1 where the clip ends at 1.2: a bad choice costs up to 1.2, as by a dual clip there.

    So it bounds what it should not, and not what it should; here a cap within the clip is refused.
    """
    logp, old, mask = (oracle("grpo", name) for name in ("logp", "old", "mask"))
    advantages = oracle("grpo", "adv")[:, None].expand_as(logp)
    good = clipped_surrogate(logp, old, advantages, eps_high=0.1)
    bad = dual_clip(logp, old, advantages, cap=1.2)
    trl = torch.where(advantages > 0, good, bad)
    ours = torch.tensor(token_mean(trl, mask).mean())
    torch.testing.assert_close(ours, oracle("grpo/dapo_delta1.1"), rtol=1e-5, atol=1e-7)


def test_the_surrogate_of_whole_answers_is_trls_rloo(oracle):
    logp, old, mask = (oracle("grpo", name) for name in ("logp", "old", "mask"))
    whole, whole_old = (logp * mask).sum(1), (old * mask).sum(1)
    ours = row_mean(clipped_surrogate(whole, whole_old, oracle("grpo", "adv"))).mean()
    torch.testing.assert_close(torch.tensor(ours), oracle("rloo/loss"), rtol=1e-5, atol=1e-7)
