"""Losses of single answers: against TRL where it follows the paper, and by their symmetries."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.functional.preference_losses import dpo
from backflip.functional.unpaired_losses import apo_zero_unpaired, bco, kto, mismatched_kl

RATIO = st.floats(-40, 40)
GOOD, BAD = torch.tensor([True]), torch.tensor([False])


def _tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def _ratio(oracle, prefix=""):
    """log π/π_ref of each stored answer."""
    mask = oracle("kto", f"{prefix}mask").bool()
    logp, ref = oracle("kto", f"{prefix}pi"), oracle("kto", f"{prefix}ref")
    return torch.where(mask, logp - ref, 0.0).sum(-1)


def test_kto_with_its_kl_is_trls(oracle):
    kl = mismatched_kl(_ratio(oracle, "KL_"))
    per_answer = kto(
        _ratio(oracle),
        oracle("kto", "label"),
        kl.expand(3),
        beta=0.1,
        desirable_weight=1.3,
        undesirable_weight=0.7,
    )
    torch.testing.assert_close(per_answer.mean(), oracle("kto/kto"))


def test_kto_whose_kl_comes_out_negative_takes_0_as_trl_does(oracle):
    kl = mismatched_kl(-10 * _ratio(oracle, "KL_").abs())
    assert kl == 0
    loss = kto(_ratio(oracle), oracle("kto", "label"), kl.expand(3), beta=0.1).mean()
    torch.testing.assert_close(loss, oracle("kto/kto_negative_KL_clamped_to_0"))


def test_apo_zero_of_single_answers_is_trls(oracle):
    loss = apo_zero_unpaired(_ratio(oracle), oracle("kto", "label"), beta=0.1).mean()
    torch.testing.assert_close(loss, oracle("kto/apo_zero_unpaired"))


def test_kto_by_hand():
    """β = ln 3, r − z₀ = ±1: σ is 3/4 and 1/4."""
    ratio, kl = _tensor(3.0, 1.0, 3.0, 1.0), _tensor(2.0, 2.0, 2.0, 2.0)
    label = torch.tensor([True, True, False, False])
    loss = kto(ratio, label, kl, beta=math.log(3), desirable_weight=2.0, undesirable_weight=4.0)
    torch.testing.assert_close(loss, _tensor(2 / 4, 2 * 3 / 4, 4 * 3 / 4, 4 / 4))


@given(ratio=RATIO, kl=st.floats(0, 20), beta=st.floats(0.01, 1), weight=st.floats(0.1, 5))
def test_with_equal_weights_a_bad_answer_is_a_good_one_mirrored_about_the_kl(
    ratio, kl, beta, weight
):
    weights = {"desirable_weight": weight, "undesirable_weight": weight}
    good = kto(_tensor(ratio), GOOD, _tensor(kl), beta=beta, **weights)
    bad = kto(_tensor(2 * kl - ratio), BAD, _tensor(kl), beta=beta, **weights)
    torch.testing.assert_close(good, bad)


@given(ratio=RATIO, kl=st.floats(0, 20))
def test_a_good_and_a_bad_answer_of_the_same_ratio_cost_1_together(ratio, kl):
    costs = [kto(_tensor(ratio), label, _tensor(kl), beta=0.3) for label in (GOOD, BAD)]
    torch.testing.assert_close(costs[0] + costs[1], _tensor(1.0))


def test_no_gradient_flows_through_the_kl():
    ratio = _tensor(0.5, -0.5).requires_grad_()
    kl = _tensor(0.2, 0.2).requires_grad_()
    kto(ratio, torch.tensor([True, False]), kl, beta=0.5).sum().backward()
    assert kl.grad is None
    assert ratio.grad is not None
    assert ratio.grad[0] < 0 < ratio.grad[1], "good answers must rise and bad ones fall"


@pytest.mark.parametrize("label", [GOOD, BAD], ids=["good", "bad"])
def test_ktos_gradient_is_strongest_at_the_kl_and_vanishes_far_from_it_on_both_sides(label):
    """Gains and losses saturate, so hopeless and finished answers teach little; BCO's do not."""
    ratio = torch.linspace(-60, 60, 241, dtype=torch.float64, requires_grad=True)
    kto(ratio, label.expand(241), torch.full_like(ratio, 3.0), beta=0.5).sum().backward()
    size = ratio.grad.abs()
    assert float(ratio.detach()[size.argmax()]) == 3.0
    assert max(size[0], size[-1]) < 1e-9
    (slope,) = torch.autograd.grad(bco(ratio, label.expand(241), beta=0.5).sum(), ratio)
    wrong_side = slope[0] if label.item() else slope[-1]
    assert abs(float(wrong_side)) == pytest.approx(0.5)


@given(st.lists(RATIO, min_size=1, max_size=9), st.integers(0, 8), st.integers(2, 4))
def test_a_row_of_weight_w_counts_in_the_kl_like_w_rows(ratios, number, copies):
    number %= len(ratios)
    weight = torch.ones(len(ratios), dtype=torch.float64)
    weight[number] = copies
    repeated = [*ratios, *[ratios[number]] * (copies - 1)]
    torch.testing.assert_close(
        mismatched_kl(_tensor(*ratios), weight), mismatched_kl(_tensor(*repeated))
    )
    assert float(mismatched_kl(_tensor(*ratios))) == pytest.approx(
        max(0.0, sum(ratios) / len(ratios)), abs=1e-9
    )


@given(ratio=RATIO, shift=st.floats(-5, 5))
def test_bco_is_the_log_loss_of_a_classifier(ratio, shift):
    """The probabilities of good and of bad add up to 1."""
    good, bad = (bco(_tensor(ratio), label, beta=0.3, shift=shift) for label in (GOOD, BAD))
    torch.testing.assert_close((-good).exp() + (-bad).exp(), _tensor(1.0))


@given(better=RATIO, worse=RATIO, shift=st.floats(-5, 5))
def test_bco_of_both_answers_bounds_dpo_of_the_pair_whatever_the_shift(better, worse, shift):
    """Jung et al.'s theorem 3."""
    both = bco(_tensor(better), GOOD, beta=0.3, shift=shift) + bco(
        _tensor(worse), BAD, beta=0.3, shift=shift
    )
    assert float(both) >= float(dpo(_tensor(better - worse), beta=0.3)) - 1e-9


@given(better=st.floats(-20, 20), worse=st.floats(-20, 20), away=st.floats(0.05, 5))
def test_the_bound_is_closest_where_the_shift_is_half_way_between_both_rewards(better, worse, away):
    """Their theorem 4, from both sides."""

    def both(shift):
        good = bco(_tensor(better), GOOD, beta=0.3, shift=shift)
        return float(good + bco(_tensor(worse), BAD, beta=0.3, shift=shift))

    half_way = 0.3 * (better + worse) / 2
    assert both(half_way) < min(both(half_way - away), both(half_way + away))


@given(ratio=RATIO, beta=st.floats(0.01, 1))
def test_apo_zero_is_kto_measured_from_0(ratio, beta):
    for label in (GOOD, BAD):
        torch.testing.assert_close(
            apo_zero_unpaired(_tensor(ratio), label, beta=beta),
            kto(_tensor(ratio), label, _tensor(0.0), beta=beta),
        )


def test_extreme_ratios_stay_finite():
    ratio = torch.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    label, kl = torch.tensor([True, True, False, False]), torch.zeros(4)
    total = kto(ratio, label, kl, beta=1.0) + bco(ratio, label, beta=1.0)
    total.sum().backward()
    assert torch.isfinite(total).all()
    assert torch.isfinite(ratio.grad).all()
