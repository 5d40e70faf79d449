"""Expectations are enumerated over three tokens, so that they are exact."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.functional.kl import adaptive_kl_coef, kl_k1, kl_k2, kl_k3
from backflip.functional.reductions import token_mean

REF = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)


def _policy():
    logits = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log().requires_grad_()
    return logits, logits.log_softmax(0)


def _gradient(of, logits):
    return torch.autograd.grad(of, logits)[0]


@pytest.mark.parametrize("estimator", [kl_k1, kl_k3])
def test_k1_and_k3_average_to_the_exact_kl(estimator):
    _, logp = _policy()
    exact = (logp.exp() * (logp - REF.log())).sum()
    torch.testing.assert_close((logp.exp() * estimator(logp, REF.log())).sum(), exact)


@pytest.mark.parametrize(
    ("estimator", "kl"),
    [
        (kl_k1, lambda logp: 0 * logp.sum()),
        (kl_k2, lambda logp: (logp.exp() * (logp - REF.log())).sum()),
        (kl_k3, lambda logp: (REF * (REF.log() - logp)).sum()),
    ],
    ids=["k1: nothing", "k2: KL(policy‖ref)", "k3: KL(ref‖policy)"],
)
def test_what_each_estimator_minimises_as_a_loss(estimator, kl):
    """The samples are fixed; the gradient flows through log π of what was sampled."""
    logits, logp = _policy()
    in_a_loss = (logp.exp().detach() * estimator(logp, REF.log())).sum()
    logits_again, logp_again = _policy()
    expected = _gradient(kl(logp_again), logits_again)
    torch.testing.assert_close(_gradient(in_a_loss, logits), expected)


@given(st.floats(-30, 0), st.floats(-30, 0))
def test_k3_is_never_negative_and_k2_is_half_of_k1_squared(logp, logp_ref):
    logp, logp_ref = torch.tensor(logp), torch.tensor(logp_ref)
    assert kl_k3(logp, logp_ref) >= 0
    torch.testing.assert_close(kl_k2(logp, logp_ref), kl_k1(logp, logp_ref) ** 2 / 2)


def test_k3_keeps_its_digits_close_to_the_reference():
    """exp(x) − 1 − x in float32 would be 0 or 1.2e-7 here; the truth is x²/2."""
    logp, logp_ref = torch.tensor([-1e-3]), torch.tensor([0.0])
    torch.testing.assert_close(kl_k3(logp, logp_ref), torch.tensor([0.5e-6]), rtol=1e-3, atol=0)


def test_k3_of_a_hopeless_token_is_still_a_number():
    assert kl_k3(torch.tensor([-500.0]), torch.tensor([0.0])).isfinite().all()


def test_k3_agrees_with_trl(oracle):
    logp, ref, mask = (oracle("grpo", name) for name in ("logp", "ref", "mask"))
    added = oracle("grpo/dapo_beta0.04_nobc") - oracle("grpo/dapo")
    ours = 0.04 * token_mean(kl_k3(logp, ref), mask).mean()
    torch.testing.assert_close(torch.tensor(ours), added, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("kl", "factor"), [(6.0, 1.0), (6.6, 1.0064), (60.0, 1.0128), (0.0, 1 - 0.0128)]
)
def test_the_kl_coefficient_moves_as_in_ziegler(kl, factor):
    """An error of 10 % counts as 0.1, one of 900 % as 0.2; 640 of 10,000 episodes were seen."""
    after = adaptive_kl_coef(0.15, kl, target=6.0, horizon=10_000, rows=640)
    assert math.isclose(after, 0.15 * factor, rel_tol=1e-12)
