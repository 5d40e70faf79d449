"""Reward losses are negative log-probabilities: they are checked as probabilities."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.functional.reward_losses import (
    all_pairs,
    bradley_terry,
    centering,
    davidson,
    decided_pairs,
    plackett_luce,
    prompt_mean,
    rao_kupper,
    scaled_bradley_terry,
    tied_pairs,
)

SCORE = st.floats(-20, 20)
DRAWN = {"rao_kupper": (rao_kupper, {"theta": 1.7}), "davidson": (davidson, {"nu": 0.8})}
WIN, TIE = torch.tensor([False]), torch.tensor([True])


def _tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@given(SCORE)
def test_bradley_terry_wins_and_losses_exhaust_what_can_happen(delta):
    won, lost = bradley_terry(_tensor(delta)), bradley_terry(_tensor(-delta))
    torch.testing.assert_close((-won).exp() + (-lost).exp(), _tensor(1.0))


@given(SCORE, SCORE, st.floats(-100, 100))
def test_bradley_terry_is_the_softmax_of_two_scores_and_knows_no_origin(better, worse, shift):
    loss = bradley_terry(_tensor(better + shift) - _tensor(worse + shift))
    torch.testing.assert_close(loss, -_tensor(better, worse).log_softmax(0)[:1])


def test_a_hopeless_pair_has_a_finite_loss():
    torch.testing.assert_close(bradley_terry(torch.tensor([-1e4])), torch.tensor([1e4]))


@given(SCORE, st.floats(0, 1), st.floats(0, 5))
def test_soft_labels_average_over_both_orders_each_with_its_margin(delta, soft, margin):
    mixed = bradley_terry(_tensor(delta), _tensor(margin), _tensor(soft))
    as_labelled = bradley_terry(_tensor(delta), margin)
    turned = bradley_terry(_tensor(-delta), margin)
    torch.testing.assert_close(mixed, soft * as_labelled + (1 - soft) * turned)


def test_a_soft_label_is_learnt_as_it_is():
    """The loss is flat exactly where the model says what the label says."""
    delta = torch.tensor([math.log(0.8 / 0.2)], requires_grad=True)
    bradley_terry(delta, soft=0.8).sum().backward()
    torch.testing.assert_close(delta.grad, torch.zeros(1))


def test_a_margin_moves_the_even_chance():
    assert bradley_terry(_tensor(3.0), _tensor(3.0)).item() == pytest.approx(math.log(2))


def test_the_reward_losses_agree_with_trl(oracle):
    chosen, rejected = oracle("reward", "chosen"), oracle("reward", "rejected")
    delta, margin = chosen - rejected, torch.tensor([0.5, 0.0])
    torch.testing.assert_close(bradley_terry(delta).mean(), oracle("reward/bt"))
    torch.testing.assert_close(bradley_terry(delta, margin).mean(), oracle("reward/bt_margin"))
    centred = (bradley_terry(delta) + 0.01 * centering(chosen, rejected)).mean()
    torch.testing.assert_close(centred, oracle("reward/bt_center0.01"))


def test_a_preference_of_strength_three_counts_like_three():
    delta = _tensor(0.3, 0.3, 0.3)
    scaled = scaled_bradley_terry(_tensor(0.3), _tensor(3.0))
    torch.testing.assert_close(scaled[0], bradley_terry(delta).sum())


def test_centering_is_content_with_opposite_scores():
    assert centering(_tensor(2.0, 1.0), _tensor(-2.0, 3.0)).tolist() == [0.0, 16.0]


@pytest.mark.parametrize("name", DRAWN)
@given(delta=SCORE)
def test_win_loss_and_tie_exhaust_what_can_happen(name, delta):
    loss, strength = DRAWN[name]
    outcomes = [(delta, WIN), (-delta, WIN), (delta, TIE)]
    chances = [(-loss(_tensor(d), tie, **strength)).exp() for d, tie in outcomes]
    torch.testing.assert_close(sum(chances), _tensor(1.0))


def test_rao_kupper_by_its_formula():
    """Strengths 3 and 1, θ = 2: 3/(3 + 2·1), and (4 − 1)·3·1/((3 + 2)(6 + 1))."""
    delta = _tensor(math.log(3), math.log(3))
    loss = rao_kupper(delta, torch.tensor([False, True]), theta=2.0)
    torch.testing.assert_close((-loss).exp(), _tensor(3 / 5, 9 / 35))


def test_davidson_by_its_formula():
    """Strengths 4 and 1, ν = 0.5: the geometric mean is 2, so 4, 1 and 1 share the chances."""
    delta = _tensor(math.log(4), math.log(4))
    loss = davidson(delta, torch.tensor([False, True]), nu=0.5)
    torch.testing.assert_close((-loss).exp(), _tensor(4 / 6, 1 / 6))


@given(SCORE)
def test_models_of_ties_without_ties_are_bradley_terry(delta):
    expected = bradley_terry(_tensor(delta))
    torch.testing.assert_close(rao_kupper(_tensor(delta), WIN, theta=1.0), expected)
    torch.testing.assert_close(davidson(_tensor(delta), WIN, nu=0.0), expected)


@pytest.mark.parametrize("name", DRAWN)
def test_a_tie_pulls_scores_together_and_a_win_apart(name):
    loss, strength = DRAWN[name]
    delta = _tensor(1.0, 1.0).requires_grad_()
    loss(delta, torch.tensor([False, True]), **strength).sum().backward()
    assert delta.grad[0] < 0 < delta.grad[1]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: rao_kupper(_tensor(0.0), TIE, theta=1.0), "theta is 1"),
        (lambda: rao_kupper(_tensor(0.0), WIN, theta=0.5), r"theta is 0\.5"),
        (lambda: davidson(_tensor(0.0), TIE, nu=0.0), "nu is 0"),
        (lambda: davidson(_tensor(0.0), WIN, nu=-1.0), "nu is -1"),
    ],
)
def test_a_model_that_excludes_ties_refuses_them(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_the_suggested_settings_are_what_the_message_says():
    """Equal answers then tie 20 % of the time."""
    equal = _tensor(0.0)
    assert (-rao_kupper(equal, TIE, theta=1.5)).exp().item() == pytest.approx(0.2)
    assert (-davidson(equal, TIE, nu=0.5)).exp().item() == pytest.approx(0.2)


def _all(scores, rank, mask=None):
    scores, rank = _tensor(*scores)[None], torch.tensor([rank])
    mask = torch.ones_like(rank, dtype=torch.bool) if mask is None else torch.tensor([mask])
    return plackett_luce(scores, rank, mask)[0]


@given(SCORE, SCORE)
def test_plackett_luce_of_two_is_bradley_terry(first, second):
    torch.testing.assert_close(
        _all([first, second], [0, 1]), bradley_terry(_tensor(first - second))[0]
    )


def test_plackett_luce_rankings_exhaust_what_can_happen():
    orders = itertools.permutations(range(4))
    total = sum((-_all([0.3, -1.0, 2.0, 0.0], list(order))).exp() for order in orders)
    torch.testing.assert_close(total, _tensor(1.0)[0])


def test_plackett_luce_by_hand():
    """Strengths 1, 2, 3; the third is drawn first (3/6), then the first (1/3)."""
    loss = _all([math.log(1), math.log(2), math.log(3)], [1, 2, 0])
    torch.testing.assert_close((-loss).exp(), _tensor(3 / 6 * 1 / 3)[0])


def test_plackett_luce_ties_by_hand():
    """Strengths 2 and 3 tie ahead of 5 (Efron): 2·3 / (10 · (10 − ½·5)), then 5/5."""
    loss = _all([math.log(2), math.log(5), math.log(3)], [0, 1, 0])
    torch.testing.assert_close((-loss).exp(), _tensor(6 / 75)[0])


@given(st.permutations(range(4)))
def test_plackett_luce_does_not_depend_on_the_order_of_the_rows(order):
    scores, rank = [0.5, -1.0, 2.0, 0.7], [0, 1, 1, 1]
    shuffled = _all([scores[i] for i in order], [rank[i] for i in order])
    torch.testing.assert_close(shuffled, _all(scores, rank))


def test_plackett_luce_tied_scores_attract():
    scores = _tensor(1.0, -1.0)[None].requires_grad_()
    mask = torch.ones(1, 2, dtype=torch.bool)
    plackett_luce(scores, torch.zeros(1, 2, dtype=torch.long), mask).sum().backward()
    assert scores.grad[0, 0] > 0 > scores.grad[0, 1]


def test_answers_that_do_not_exist_change_neither_loss_nor_gradient():
    """Whatever their score and rank: even NaN."""
    short = _tensor(0.5, -1.0)[None].requires_grad_()
    plackett_luce(short, torch.tensor([[1, 0]]), torch.tensor([[True, True]])).sum().backward()
    padded = torch.tensor([[0.5, math.nan, -1.0]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False, True]])
    loss = plackett_luce(padded, torch.tensor([[1, 0, 0]]), mask)
    loss.sum().backward()
    torch.testing.assert_close(loss[0], _all([0.5, -1.0], [1, 0]))
    torch.testing.assert_close(padded.grad[mask], short.grad[0])
    assert padded.grad[0, 1] == 0


RANK, PROMPT = torch.tensor([1, 0, 0, 0, 0, 2, 1]), torch.tensor([0, 0, 0, 1, 1, 2, 2])


def test_pairs_of_a_ranking_with_ties():
    """Prompt 0 ranks two answers above one, prompt 1 is one tie, prompt 2 is one pair."""
    better, worse, prompt = decided_pairs(RANK, PROMPT)
    found = set(zip(better.tolist(), worse.tolist(), prompt.tolist(), strict=True))
    assert found == {(1, 0, 0), (2, 0, 0), (6, 5, 2)}
    ties = tied_pairs(RANK, PROMPT)
    assert [t.tolist() for t in ties] == [[1, 3], [2, 4], [0, 1]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12))
def test_every_pair_of_a_prompt_is_decided_or_tied(answers):
    rank, prompt = torch.tensor([a[0] for a in answers]), torch.tensor([a[1] for a in answers])
    sizes = torch.bincount(prompt)
    pairs = len(decided_pairs(rank, prompt).prompt) + len(tied_pairs(rank, prompt).prompt)
    assert pairs == int((sizes * (sizes - 1) // 2).sum())


def test_all_pairs_of_instruct_gpt_by_enumeration():
    scores, rank = _tensor(0.3, 2.0, -1.0, 0.5), [2, 0, 1, 3]
    pairs = [(i, j) for i, j in itertools.permutations(range(4), 2) if rank[i] < rank[j]]
    expected = sum(-torch.log(torch.sigmoid(scores[i] - scores[j])) for i, j in pairs) / 6
    loss = all_pairs(scores, torch.tensor(rank), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(loss, expected[None])


def test_prompts_weigh_the_same_however_many_answers_they_have():
    losses = all_pairs(_tensor(*[0.0] * 7), RANK, PROMPT)
    torch.testing.assert_close(losses, math.log(2) * _tensor(1.0, 0.0, 1.0))


def test_prompt_mean_leaves_prompts_without_pairs_at_zero():
    mean = prompt_mean(_tensor(1.0, 3.0, 5.0), torch.tensor([2, 2, 0]), prompts=4)
    assert mean.tolist() == [5.0, 0.0, 2.0, 0.0]
