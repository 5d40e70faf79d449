"""Advantages over siblings: by hand, by the identities that relate them, and against TRL."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.functional.group_credit import (
    group_centred,
    group_relative,
    leave_one_out,
    length_weighted,
    max_likelihood,
    normalised_sum,
    step_relative,
    useful_share,
)


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_leave_one_out_by_hand():
    scores, prompt = torch.tensor([1.0, 0.0, 5.0, 0.0, 7.0]), torch.tensor([70, 70, -3, 70, -3])
    expected = torch.tensor([1.0, -0.5, -2.0, -0.5, 2.0])
    torch.testing.assert_close(leave_one_out(scores, prompt), expected)


def test_leave_one_out_is_a_rescaled_group_mean():
    scores, group = _noise(8), torch.tensor([0, 1] * 4)
    centred = group_relative(scores, group, divide_by_std=False)
    torch.testing.assert_close(leave_one_out(scores, group), centred * 4 / 3)


@pytest.mark.parametrize("alone", [leave_one_out, group_relative, max_likelihood])
def test_an_answer_whose_siblings_have_no_score_teaches_nothing(alone):
    found = alone(torch.tensor([1.0, 0.0, 3.0]), torch.tensor([0, 0, 1]))
    assert found[2] == 0
    assert found[0] > 0


def test_group_relative_by_hand():
    """Group 4 has mean 2 and standard deviation 1; group 9 has mean 0 and 10."""
    scores, group = torch.tensor([1.0, 10.0, 3.0, -10.0]), torch.tensor([4, 9, 4, 9])
    torch.testing.assert_close(group_relative(scores, group), torch.tensor([-1.0, 1.0, 1.0, -1.0]))


@given(st.floats(-100, 100, width=32), st.integers(1, 2048))
def test_a_group_of_equals_teaches_nothing(score, size):
    """Rounding in the mean must not be divided by itself into an advantage of one."""
    scores, group = torch.full((size,), score), torch.zeros(size, dtype=torch.long)
    assert (group_relative(scores, group) == 0).all()


def test_group_advantages_agree_with_trl(oracle):
    """The fourth answer could not be scored; the second group says nothing."""
    rewards, weights = torch.tensor([[1.0, 0.2], [0.0, 0.6], [2.0, 0.0]]), torch.tensor([1.0, 0.5])
    scores, group = rewards @ weights, torch.zeros(3, dtype=torch.long)
    centred = group_relative(scores, group, divide_by_std=False)
    torch.testing.assert_close(centred, oracle("adv/grpo_none")[:3])
    torch.testing.assert_close(leave_one_out(scores, group), oracle("adv/rloo")[:3])
    trl_divides_by = scores.std(correction=1) + 1e-4
    whole = torch.cat([centred, torch.zeros(4)])  # one deviation for both groups
    torch.testing.assert_close(
        whole / (torch.cat([scores, torch.full((4,), 1.5)]).std() + 1e-4),
        oracle("adv/grpo_batch")[[0, 1, 2, 4, 5, 6, 7]],
    )
    ours = group_relative(scores, group) * scores.std(correction=0)
    torch.testing.assert_close(ours / trl_divides_by, oracle("adv/grpo_group")[:3])


ALL = {
    "centred": group_centred,
    "relative": group_relative,
    "leave one out": leave_one_out,
    "MaxRL": max_likelihood,
    "OPO": lambda s, g: length_weighted(s, g, torch.arange(len(s)) + 1),
    "GDPO": lambda s, g: normalised_sum(s[:, None], g, weights=torch.ones(1)),
    "steps": lambda s, g: step_relative(s[:, None], torch.ones(len(s), 1).bool(), g)[:, 0],
}


@pytest.mark.parametrize("name", ALL)
@given(st.floats(0, 100, width=32), st.integers(2, 2048))
def test_equal_scores_are_worth_exactly_nothing(name, score, size):
    scores, group = torch.full((size,), score), torch.zeros(size, dtype=torch.long)
    assert (ALL[name](scores, group) == 0).all()
    assert useful_share(scores, group) == 0


def test_max_likelihood_by_hand():
    """One right of four: (1 − ¼)/¼ = 3 and −1; nobody right of two, everybody of two: nothing."""
    scores = torch.tensor([1.0, 0, 0, 0, 0, 0, 1, 1])
    group = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    assert max_likelihood(scores, group).tolist() == [3, -1, -1, -1, 0, 0, 0, 0]


def test_max_likelihood_follows_the_gradient_of_log_success():
    """Four answers in the proportions ½, ¼, ¼ of π: the mean of A·∇log π is ∇ log P(right)."""
    logits = torch.tensor([0.5, 0.25, 0.25]).log().requires_grad_()
    answers, right = torch.tensor([0, 0, 1, 2]), torch.tensor([0.0, 1.0, 0.0])
    advantages = max_likelihood(right[answers], torch.zeros(4, dtype=torch.long))
    logp = logits.log_softmax(0)
    (exact,) = torch.autograd.grad((logp.exp() * right).sum().log(), logits, retain_graph=True)
    (found,) = torch.autograd.grad((advantages * logp[answers]).mean(), logits)
    torch.testing.assert_close(found, exact)


def test_length_weighted_by_hand_is_the_mean_at_equal_lengths():
    """Lengths 1 and 3: (1·1 + 3·0)/4 is expected, rather than ½."""
    scores, group = torch.tensor([1.0, 0.0]), torch.tensor([5, 5])
    found = length_weighted(scores, group, torch.tensor([1, 3]))
    torch.testing.assert_close(found, torch.tensor([0.75, -0.25]))
    noise, pairs = _noise(6), torch.tensor([0, 0, 1, 1, 2, 2])
    even = length_weighted(noise, pairs, torch.full((6,), 7))
    torch.testing.assert_close(even, group_centred(noise, pairs))


def test_length_weighted_has_the_least_variance_where_squared_gradients_grow_with_length():
    """Var Σ A∇ = E[n (R − b)²] − …: its minimum over b is at the weighted mean (OPO)."""
    scores, lengths = _noise(5), torch.tensor([1, 2, 3, 5, 8])
    group = torch.zeros(5, dtype=torch.long)
    best = (scores - length_weighted(scores, group, lengths))[0]
    at = torch.stack(
        [(lengths * (scores - b) ** 2).sum() for b in (best - 0.01, best, best + 0.01)]
    )
    assert at.argmin() == 1


def test_share_of_useful_answers():
    """One group of two differs, of four groups."""
    scores, group = torch.tensor([1.0, 0, 1, 1, 0, 0, 2, 2]), torch.arange(4).repeat_interleave(2)
    assert useful_share(scores, group) == 0.25


def test_normalised_sum_keeps_apart_what_a_sum_confuses():
    """GDPO's figure 2: rewards (0, 1) and (1, 0) sum to one number, as do not their groups."""
    parts = torch.tensor([[0.0, 0], [0, 1], [0, 0], [1, 1]])
    group = torch.tensor([0, 0, 1, 1])
    of_sums = group_relative(parts.sum(-1), group)
    assert of_sums[1] == of_sums[3]
    apart = normalised_sum(parts, group, weights=torch.ones(2))
    assert apart[3] > apart[1]
    torch.testing.assert_close(apart, torch.tensor([-1.0, 1, -2, 2]) / 2.5**0.5)


def test_normalised_sum_agrees_with_trl(oracle):
    """TRL divides by s + 1e-4 of the sample, in the group and in the batch, and counts a reward
    that is missing 0 after normalising; its fourth answer, without any, is left out."""

    def as_trl(x, of):
        return group_relative(x, of) * x.std(correction=0) / (x.std() + 1e-4)

    three, two = torch.zeros(3, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    first = as_trl(torch.tensor([1.0, 0.0, 2.0]), three)
    second = torch.cat([as_trl(torch.tensor([0.2, 0.6]), two), torch.zeros(1)])
    batch = torch.cat([first + 0.5 * second, torch.zeros(4)])
    trl = oracle("adv/grpo_gdpo(normalize_then_sum)")[[0, 1, 2, 4, 5, 6, 7]]
    torch.testing.assert_close(as_trl(batch, torch.zeros(7, dtype=torch.long)), trl)


def test_normalised_sum_of_two_rewards_by_hand():
    """z of each: (−1, 1) and (1, −1); weighted 1 and ½ they sum to ∓½, and whiten to ∓1."""
    parts, group = torch.tensor([[0.0, 30.0], [2.0, 10.0]]), torch.zeros(2, dtype=torch.long)
    found = normalised_sum(parts, group, weights=torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(found, torch.tensor([-1.0, 1.0]))


def test_steps_are_normalised_over_all_steps_of_the_group():
    """Three steps of one answer and one of its sibling: mean ½ and deviation ½ over the four."""
    rewards = torch.tensor([[1.0, 9, 0, 1], [0, 9, 9, 9]])
    ends = torch.tensor([[1, 0, 1, 1], [1, 0, 0, 0]]).bool()
    found = step_relative(rewards, ends, torch.zeros(2, dtype=torch.long))
    assert found.tolist() == [[1, 0, -1, 1], [-1, 0, 0, 0]]


def test_one_step_at_the_end_is_the_outcome_form():
    scores, group = _noise(6), torch.tensor([0, 0, 0, 1, 1, 1])
    rewards, ends = torch.zeros(6, 4, dtype=torch.float64), torch.zeros(6, 4, dtype=torch.bool)
    rewards[:, 3], ends[:, 3] = scores, True
    torch.testing.assert_close(
        step_relative(rewards, ends, group)[:, 3], group_relative(scores, group)
    )
