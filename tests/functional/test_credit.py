"""Who deserves the score: by hand, by definition, and by what must not matter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.functional.credit import (
    at_end,
    first_choice,
    gae,
    last_choice,
    length_adaptive_lam,
    one_step,
    returns_to_go,
    step_gae,
    token_rewards,
    whiten,
)

YES, NO = True, False
MASK = torch.tensor([[NO, YES, NO, YES, NO], [YES, YES, YES, NO, NO], [NO] * 5])


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_first_and_last_choice():
    assert first_choice(MASK).tolist() == [1, 0, 5]
    assert last_choice(MASK).tolist() == [3, 2, -1]


def test_a_batch_without_any_token_has_no_choices():
    empty = torch.zeros(2, 0, dtype=torch.bool)
    assert first_choice(empty).tolist() == [0, 0]
    assert last_choice(empty).tolist() == [-1, -1]


def test_the_score_is_paid_on_the_last_choice_and_the_leash_on_each():
    logp = torch.tensor([[9.0, -1.0, 9.0, -2.0, 9.0], [-1.0, -1.0, -1.0, 9.0, 9.0], [9.0] * 5])
    ref = torch.tensor([[0.0, -2.0, 0.0, -1.5, 0.0], [-1.0, -3.0, -1.0, 0.0, 0.0], [0.0] * 5])
    rewards = token_rewards(
        at_end(torch.tensor([5.0, 7.0, 3.0]), MASK), logp, ref, MASK, kl_coef=0.1
    )
    expected = torch.tensor([[0, -0.1, 0, 5.05, 0], [0, -0.2, 7, 0, 0], [0] * 5])
    torch.testing.assert_close(rewards, expected)


def test_what_lies_behind_the_end_cannot_poison_the_rewards():
    """A log-probability of −∞ or NaN at padding is not a reason for a NaN."""
    logp = torch.where(MASK, -1.0, float("-inf"))
    rewards = token_rewards(at_end(torch.ones(3), MASK), logp, logp, MASK, kl_coef=0.1)
    assert rewards.sum(1).tolist() == [1.0, 1.0, 0.0]
    junk = torch.where(MASK, 0.5, float("nan"))
    assert gae(junk, junk, MASK).isfinite().all()


@pytest.mark.parametrize("bootstrap", [None, torch.tensor([2.0], dtype=torch.float64)])
def test_gae_by_definition(bootstrap):
    """Sum the discounted TD errors, as in the paper, one step at a time."""
    rewards, values, gamma, lam = _noise(1, 5), _noise(1, 5, seed=1), 0.9, 0.8
    end = torch.zeros(1, dtype=torch.float64) if bootstrap is None else bootstrap
    delta = (rewards + gamma * torch.cat([values[:, 1:], end[:, None]], 1) - values)[0]
    expected = [sum((gamma * lam) ** k * delta[t + k] for k in range(5 - t)) for t in range(5)]
    choices = torch.ones(1, 5, dtype=torch.bool)
    actual = gae(rewards, values, choices, bootstrap, gamma=gamma, lam=lam)
    torch.testing.assert_close(actual[0], torch.stack(expected))


def test_a_bootstrap_stands_for_the_rewards_that_the_clock_cut_off():
    """With a perfect critic, cutting an episode short changes no advantage."""
    rewards, values = _noise(1, 6), _noise(1, 6, seed=1)
    choices = torch.ones(1, 6, dtype=torch.bool)
    values[:, 4:] = returns_to_go(rewards, choices, gamma=0.9)[:, 4:]
    whole = gae(rewards, values, choices, gamma=0.9)
    cut = gae(rewards[:, :4], values[:, :4], choices[:, :4], values[:, 4], gamma=0.9)
    torch.testing.assert_close(cut, whole[:, :4])


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_inserting_tool_output_changes_no_advantage(chosen, gamma, lam):
    """Whatever the critic says of tokens that the policy did not choose."""
    mask = torch.tensor([chosen])
    own = mask[0]
    rewards, values = _noise(1, len(chosen)), _noise(1, len(chosen), seed=1)
    inserted = gae(rewards, values * 9, mask, gamma=gamma, lam=lam)
    plain = gae(rewards[:, own], values[:, own] * 9, mask[:, own], gamma=gamma, lam=lam)
    torch.testing.assert_close(inserted[:, own], plain)
    assert (inserted[:, ~own] == 0).all()


def test_gae_with_lambda_one_is_return_minus_value():
    rewards, values = _noise(2, 5), _noise(2, 5, seed=1)
    choices = torch.ones(2, 5, dtype=torch.bool)
    expected = returns_to_go(rewards, choices, gamma=0.9) - values
    torch.testing.assert_close(gae(rewards, values, choices, gamma=0.9, lam=1.0), expected)


def test_returns_by_hand():
    """Discounted per choice: the step between two choices costs nothing."""
    rewards = torch.tensor([[0.0, 1.0, 0.0, 8.0, 0.0]])
    returns = returns_to_go(rewards, MASK[:1], gamma=0.5)
    torch.testing.assert_close(returns, torch.tensor([[0.0, 5.0, 0.0, 8.0, 0.0]]))


def test_one_step_compares_the_score_with_the_value_of_the_prompt():
    values = torch.tensor([[9.0, 2.0, 9.0, 9.0, 9.0], [3.0, 9.0, 9.0, 9.0, 9.0], [9.0] * 5])
    advantages = one_step(torch.tensor([5.0, 1.0, 4.0]), values, MASK)
    expected = torch.tensor([[0.0, 3, 0, 3, 0], [-2, -2, -2, 0, 0], [0] * 5])
    torch.testing.assert_close(advantages, expected)


def test_whitened_numbers_have_mean_zero_and_variance_one_over_the_choices():
    x = torch.tensor([[99.0, 5, 99, 9, 99], [7.0, 11, 3, 99, 99], [99.0] * 5])
    white = whiten(x, MASK)
    torch.testing.assert_close(white[MASK].mean(), torch.tensor(0.0))
    torch.testing.assert_close(white[MASK].var(correction=0), torch.tensor(1.0))
    assert (white[~MASK] == 0).all()


def test_whitening_can_leave_the_mean_where_it_was():
    x = torch.tensor([[99.0, 5, 99, 9, 99], [7.0, 11, 3, 99, 99], [99.0] * 5])
    white = whiten(x, MASK, shift_mean=False)
    torch.testing.assert_close(white[MASK].mean(), x[MASK].mean())
    torch.testing.assert_close(white[MASK].var(correction=0), torch.tensor(1.0))


@given(st.floats(0.1, 100), st.floats(-100, 100))
def test_whitening_forgets_scale_and_origin(scale, shift):
    x = _noise(3, 5)
    torch.testing.assert_close(whiten(scale * x + shift, MASK), whiten(x, MASK))


@given(st.floats(-100, 100, width=32), st.integers(1, 30))
def test_whitening_makes_no_signal_from_equal_numbers(value, width):
    """Rounding in the mean must not be divided by itself."""
    white = whiten(torch.full((3, width), value), torch.ones(3, width, dtype=torch.bool))
    assert (white == 0).all()


def test_whitening_nothing_gives_zeros():
    assert (whiten(torch.ones(3, 5), torch.zeros(3, 5, dtype=torch.bool)) == 0).all()


def test_shapes_are_checked():
    with pytest.raises(Exception, match="values"):
        gae(torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(2, 3, dtype=torch.bool))


def test_a_step_is_one_action_whose_choices_share_its_advantage():
    """Values 2 and 5, a score of 6 at the end: the first step is worth 5 − 2, the second 6 − 5."""
    mask = torch.tensor([[YES, YES, NO, YES, YES]])
    states = torch.tensor([[YES, NO, NO, YES, NO]])
    values, rewards = torch.tensor([[2.0, 2, 2, 5, 5]]), torch.tensor([[0.0, 0, 9, 0, 6]])
    found = step_gae(rewards, values, mask, states, lam=0.0)
    assert found.tolist() == [[3, 3, 0, 1, 1]]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_where_every_choice_is_a_state_steps_change_nothing(chosen, gamma, lam):
    mask = torch.tensor([chosen])
    rewards, values = _noise(1, len(chosen)), _noise(1, len(chosen), seed=1)
    found = step_gae(rewards, values, mask, mask, gamma=gamma, lam=lam)
    assert torch.equal(found, gae(rewards, values, mask, gamma=gamma, lam=lam))


def test_lambda_grows_with_the_length_of_the_answer():
    """α = 0.05: 40 choices 1 − 1/2, 200 choices 0.9, and never below 0."""
    mask = torch.arange(200) < torch.tensor([[5], [20], [40], [200]])
    found = length_adaptive_lam(mask, alpha=0.05)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.5, 0.9]))


def test_each_row_may_have_its_own_lambda():
    rewards, values = _noise(2, 5), _noise(2, 5, seed=1)
    choices, lam = torch.ones(2, 5, dtype=torch.bool), torch.tensor([0.3, 0.8])
    both = gae(rewards, values, choices, lam=lam.double())
    for row in range(2):
        alone = gae(rewards[[row]], values[[row]], choices[[row]], lam=float(lam[row]))
        torch.testing.assert_close(both[[row]], alone)
