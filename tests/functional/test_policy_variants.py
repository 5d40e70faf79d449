"""Losses beside PPO's: by hand, by what they come to where they meet, and against TRL."""

from __future__ import annotations

import math

import pytest
import torch

from backflip.functional.kl import kl_exact, kl_k3, kl_k3_unbiased
from backflip.functional.policy_losses import clipped_surrogate, dual_clip, reinforce
from backflip.functional.policy_variants import (
    beyond_trust,
    binary_kl,
    binary_tv,
    cispo,
    covariance,
    dppo,
    gmpo,
    gspo,
    gspo_token,
    sapo,
    vespo,
)
from backflip.functional.reductions import sequence_mean, sequence_sum, token_mean

OLD = torch.log(torch.tensor([[0.5, 0.2, 0.4], [0.1, 0.6, 1.0]], dtype=torch.float64))
MASK = torch.tensor([[True, True, True], [True, True, False]])
RATIOS = torch.tensor([[1.2, 0.5, 1.0], [4.0, 1.5, 1.0]], dtype=torch.float64)
NEW = OLD + RATIOS.log()
ADVANTAGES = torch.tensor([[1.0], [-2.0]], dtype=torch.float64).expand(2, 3)
WIDE = {"eps_low": 0.9, "eps_high": 9.0}


def gradient(loss, at=NEW):
    logp = at.clone().requires_grad_()
    return torch.autograd.grad(sequence_mean(loss(logp), MASK).total, logp)[0]


def test_gspo_by_hand():
    """Ratios 1.2 and 0.5 and 1 of one answer: s = 0.6^(1/3); 4 and 1.5 of the other: √6."""
    loss = gspo(NEW, OLD, ADVANTAGES, MASK, **WIDE)
    torch.testing.assert_close(loss[0], torch.full((3,), -(0.6 ** (1 / 3)), dtype=loss.dtype))
    torch.testing.assert_close(loss[1], torch.full((3,), 2 * 6**0.5, dtype=loss.dtype))
    clipped = gspo(NEW, OLD, -ADVANTAGES, MASK)
    torch.testing.assert_close(clipped[0, 0].item(), 1 - 3e-4)
    torch.testing.assert_close(clipped[1, 0].item(), -2 * (1 + 4e-4))


@pytest.mark.parametrize("eps", [WIDE, {"eps_low": 3e-4, "eps_high": 4e-4}])
def test_the_token_form_has_gspos_gradient_where_advantages_agree(eps):
    sequence = gradient(lambda logp: gspo(logp, OLD, ADVANTAGES, MASK, **eps))
    token = gradient(lambda logp: gspo_token(logp, OLD, ADVANTAGES, MASK, **eps))
    torch.testing.assert_close(sequence, token)


def test_gspo_is_the_clipped_surrogate_of_answers_of_one_token():
    one, eps = MASK[:, :1], {"eps_low": 0.2, "eps_high": 0.28}
    ours = gspo(NEW[:, :1], OLD[:, :1], ADVANTAGES[:, :1], one, **eps)
    torch.testing.assert_close(
        ours, clipped_surrogate(NEW[:, :1], OLD[:, :1], ADVANTAGES[:, :1], **eps)
    )


def test_gspos_clip_acts_where_ppos_never_would():
    """Each of a hundred tokens moved by 0.1 %: within PPO's clip, beyond GSPO's."""
    old, mask = torch.full((1, 100), -1.0), torch.ones(1, 100, dtype=torch.bool)
    logp, good = (old + 1e-3).requires_grad_(), torch.ones(1, 100)
    assert torch.autograd.grad(clipped_surrogate(logp, old, good).sum(), logp)[0].abs().min() > 0
    assert torch.autograd.grad(gspo(logp, old, good, mask).sum(), logp)[0].abs().max() == 0


def test_cispo_caps_the_weight_and_keeps_the_gradient():
    """Gradient of −A·w·log π: w is the ratio up to the cap, in both directions of A."""
    logp = NEW.clone().requires_grad_()
    (found,) = torch.autograd.grad(cispo(logp, OLD, ADVANTAGES, cap=1.3).sum(), logp)
    torch.testing.assert_close(found, -ADVANTAGES * RATIOS.clamp(max=1.3))


@pytest.mark.parametrize(
    "loss",
    [
        lambda logp: cispo(logp, OLD, ADVANTAGES),
        lambda logp: sapo(logp, OLD, ADVANTAGES),
        lambda logp: dppo(logp, OLD, ADVANTAGES),
        lambda logp: gspo(logp, OLD, ADVANTAGES, MASK),
        lambda logp: gmpo(logp, OLD, ADVANTAGES, MASK),
        lambda logp: vespo(logp, OLD, ADVANTAGES, MASK),
        lambda logp: clipped_surrogate(logp, OLD, ADVANTAGES),
        lambda logp: dual_clip(logp, OLD, ADVANTAGES),
    ],
)
def test_on_policy_every_loss_has_the_gradient_of_reinforce(loss):
    """At ratio 1 nothing is clipped, and each is averaged within its answer."""
    plain = gradient(lambda logp: reinforce(logp, ADVANTAGES), at=OLD)
    torch.testing.assert_close(gradient(loss, at=OLD), plain)


def test_sapos_gate_fades_on_both_sides_and_sooner_for_bad_choices():
    """Weight of ∇r is 4 σ(1 − σ) at τ(r − 1): 1 at r = 1, sech²(τ(r − 1)/2) elsewhere."""
    ratios = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    for sign, tau in ((1.0, 1.0), (-1.0, 1.05)):
        logp = ratios.log().requires_grad_()
        loss = sapo(logp, torch.zeros_like(ratios), sign * torch.ones_like(ratios))
        weight = torch.autograd.grad(loss.sum(), logp)[0] / (-sign * ratios)
        torch.testing.assert_close(weight.detach(), 1 / torch.cosh(tau * (ratios - 1) / 2) ** 2)


def test_gmpo_by_hand():
    """Good: ratios 1.2, 0.5, 1 are all below e^0.4. Bad: 4 and 1.5 stay; above is no limit."""
    loss = gmpo(NEW, OLD, ADVANTAGES, MASK)
    torch.testing.assert_close(loss[0, 0].item(), -(0.6 ** (1 / 3)))
    torch.testing.assert_close(loss[1, 0].item(), 2 * 6**0.5)
    turned = gmpo(NEW, OLD, -ADVANTAGES, MASK)
    torch.testing.assert_close(turned[0, 0].item(), (1.2 * math.exp(-0.4)) ** (1 / 3))
    torch.testing.assert_close(turned[1, 0].item(), -2 * math.exp(0.4))


def test_gmpo_without_a_clip_is_gspo_without_one():
    """Both are A times the geometric mean of the ratios."""
    gmpo_loss = gmpo(NEW, OLD, ADVANTAGES, MASK, eps_low=50.0, eps_high=50.0)
    gspo_loss = gspo(NEW, OLD, ADVANTAGES, MASK, eps_low=1.0, eps_high=1e9)
    torch.testing.assert_close(gmpo_loss, gspo_loss)


def test_the_binary_divergences_are_those_of_two_outcomes():
    p, q = OLD.exp(), NEW.exp()
    inside = (p < 0.99) & (q < 0.99)
    outcomes = torch.stack([p, 1 - p], -1), torch.stack([q, 1 - q], -1)
    exact = kl_exact(outcomes[0].log(), outcomes[1].log())
    torch.testing.assert_close(binary_kl(NEW, OLD)[inside], exact[inside])
    torch.testing.assert_close(binary_tv(NEW, OLD), (outcomes[0] - outcomes[1]).abs().sum(-1) / 2)
    certain = binary_kl(torch.zeros(1), torch.zeros(1))
    assert certain.isfinite().all()


@pytest.mark.parametrize("divergence", ["tv", "kl"])
def test_dppo_holds_likely_tokens_that_fall_and_lets_unlikely_ones_grow(divergence):
    """0.99 → 0.6 is a ratio of 0.6, 0.001 → 0.01 one of 10: PPO judges them the other way round."""
    old, new = torch.tensor([0.99, 0.001]).log(), torch.tensor([0.6, 0.01]).log()
    delta = {"tv": 0.15, "kl": 0.05}[divergence]
    pushed = torch.tensor([-1.0, 1.0])
    far = beyond_trust(new, old, pushed, delta=delta, divergence=divergence)
    assert far.tolist() == [True, False]
    assert not beyond_trust(new, old, -pushed, delta=delta, divergence=divergence).any()
    logp = new.clone().requires_grad_()
    loss = dppo(logp, old, pushed, delta=delta, divergence=divergence, cap=4.0)
    assert torch.autograd.grad(loss.sum(), logp)[0].tolist() == [0.0, -4.0]


def test_the_covariance_is_a_part_of_the_batchs_own():
    rows = covariance(NEW, ADVANTAGES, MASK)
    chosen = torch.stack([NEW[MASK], ADVANTAGES[MASK]])
    torch.testing.assert_close(rows.sum() / MASK.sum(), torch.cov(chosen, correction=0)[0, 1])


def test_the_unbiased_k3_averages_to_the_kl_on_another_policys_choices():
    """Σ p_old · k3 · π/p_old over three tokens is KL(π‖ref), whoever drew them."""
    old, new, ref = (
        torch.tensor(p).log() for p in ([0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0.3, 0.3, 0.4])
    )
    weighed = (old.exp() * kl_k3_unbiased(new, ref, old)).sum()
    torch.testing.assert_close(weighed, kl_exact(new, ref))
    assert ((old.exp() * kl_k3(new, ref)).sum() - kl_exact(new, ref)).abs() > 0.1


PPOS = {"eps_low": 0.2, "eps_high": 0.2}
TRL = {
    "grpo/dapo_clip_higher": (
        lambda x, o, a, m: clipped_surrogate(x, o, a, eps_high=0.28),
        token_mean,
    ),
    "grpo/cispo_eh5": (lambda x, o, a, m: cispo(x, o, a, cap=5.0), token_mean),
    "grpo/cispo_eh0.2_DEFAULT": (lambda x, o, a, m: cispo(x, o, a, cap=0.2), token_mean),
    "grpo/sapo": (lambda x, o, a, m: sapo(x, o, a), sequence_mean),
    "grpo/gspo(loss=grpo,level=sequence)": (
        gspo,
        sequence_mean,
    ),
    "grpo/luspo_seq": (lambda x, o, a, m: gspo(x, o, a, m, **PPOS), sequence_sum),
    "grpo/luspo_token": (lambda x, o, a, m: clipped_surrogate(x, o, a), sequence_sum),
    "grpo/vespo": (vespo, token_mean),
}
"""``dapo_delta1.1``, whose cap lies within the clip (we refuse it), and the two cases of TRL's
division over accumulated micro-batches are compared in ``test_policy_losses.py``."""


@pytest.mark.parametrize("case", TRL)
def test_the_loss_agrees_with_trl(oracle, case):
    logp, old, mask = (oracle("grpo", name) for name in ("logp", "old", "mask"))
    advantages = oracle("grpo", "adv")[:, None].expand_as(logp)
    loss, reduce = TRL[case]
    ours = reduce(loss(logp, old, advantages, mask), mask).mean()
    torch.testing.assert_close(torch.tensor(ours), oracle(case), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("case", "kl"),
    [
        ("grpo/dapo_beta0.04", kl_k3_unbiased),
        ("grpo/dapo_beta0.04_nobc", lambda x, r, o: kl_k3(x, r)),
    ],
)
def test_the_kl_in_the_loss_agrees_with_trl(oracle, case, kl):
    logp, old, ref, mask = (oracle("grpo", name) for name in ("logp", "old", "ref", "mask"))
    advantages = oracle("grpo", "adv")[:, None].expand_as(logp)
    per_token = clipped_surrogate(logp, old, advantages) + 0.04 * kl(logp, ref, old)
    ours = token_mean(per_token, mask).mean()
    torch.testing.assert_close(torch.tensor(ours), oracle(case), rtol=1e-5, atol=1e-7)


def test_the_entropy_bonus_agrees_with_trl(oracle):
    logp, old, mask = (oracle("grpo", name) for name in ("logp", "old", "mask"))
    advantages = oracle("grpo", "adv")[:, None].expand_as(logp)
    loss = token_mean(clipped_surrogate(logp, old, advantages), mask).mean()
    ours = loss - 0.01 * token_mean(oracle("grpo", "entropy"), mask).mean()
    torch.testing.assert_close(
        torch.tensor(ours), oracle("grpo/dapo_entropy0.01"), rtol=1e-5, atol=1e-7
    )


def test_vespos_weight_is_one_on_policy_and_falls_on_both_sides():
    """φ(w) = w^k e^(λ(1 − w)) by the answer's whole ratio: by hand at w = 0.6 and w = 6."""
    loss = vespo(NEW, OLD, ADVANTAGES, MASK)
    good, bad = 0.6**2 * math.exp(3 * 0.4), 6**3 * math.exp(2 * -5)
    torch.testing.assert_close(loss[0], -good * NEW[0])
    torch.testing.assert_close(loss[1], 2 * bad * NEW[1])
