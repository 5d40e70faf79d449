"""Losses of the direct family: against TRL where it follows the paper, by identity, and by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.functional.preference_losses import (
    alpha_slope,
    apo_down,
    apo_zero,
    bco_pair,
    dpo,
    exo_pair,
    f_dpo,
    forward_kl_slope,
    hinge,
    ipo,
    js_slope,
    length_regularised_dpo,
    log_odds,
    nca_pair,
    orpo,
    psi_po,
    reverse_kl_slope,
    robust_dpo,
    simpo,
    sppo,
)
from backflip.functional.reward_losses import bradley_terry

NATS = st.floats(-30, 30)
PROBABILITY = st.floats(0.01, 0.99)
SLOPES = {
    "reverse_kl": reverse_kl_slope,
    "forward_kl": forward_kl_slope,
    "js": js_slope,
    "alpha": lambda u: alpha_slope(u, alpha=0.5),
}


def _tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def _minimum(loss, low=-60.0, high=60.0, steps=240_001):
    """Where a loss of one number is least."""
    x = torch.linspace(low, high, steps, dtype=torch.float64)
    return float(x[loss(x).argmin()])


class Answers:
    """The stored inputs of TRL's DPO: two pairs, the better answers first."""

    def __init__(self, oracle):
        self.mask = oracle("dpo", "mask")
        self.logp, self.logp_ref = (
            (oracle("dpo", name) * self.mask).sum(-1) for name in ("pi", "ref")
        )
        self.ratio = self.logp - self.logp_ref
        self.better, self.worse = self.ratio.chunk(2)
        self.delta = self.better - self.worse
        mean = self.ratio / self.mask.sum(-1)
        self.mean_delta = mean[:2] - mean[2:]


TRL = {
    "sigmoid": lambda a: dpo(a.delta, beta=0.1),
    "hinge": lambda a: hinge(0.1 * a.delta),
    "ipo": lambda a: ipo(a.mean_delta, beta=0.1),
    "sigmoid_norm": lambda a: dpo(a.mean_delta, beta=0.1),
    "nca_pair": lambda a: nca_pair(a.better, a.worse, beta=0.1),
    "bco_pair": lambda a: bco_pair(a.better, a.worse, beta=0.1),
    "sppo_hard": lambda a: (
        sppo(a.better, torch.ones(2), beta=0.1) + sppo(a.worse, torch.zeros(2), beta=0.1)
    ),
    "apo_zero": lambda a: apo_zero(a.better, a.worse, beta=0.1),
    "apo_down": lambda a: apo_down(a.better, a.worse, beta=0.1),
    "robust": lambda a: robust_dpo(a.delta, beta=0.1, noise=0.2),
    "exo_pair": lambda a: exo_pair(a.delta, beta=0.1, smoothing=0.2),
    "fdiv_forward_kl": lambda a: _f_dpo("forward_kl", a.better, a.worse),
    "fdiv_js_divergence": lambda a: _f_dpo("js", a.better, a.worse),
    "fdiv_alpha_divergence": lambda a: _f_dpo("alpha", a.better, a.worse),
}


def _f_dpo(divergence, better, worse, beta=0.1):
    slope = SLOPES[divergence]
    return f_dpo(slope(better), slope(worse), beta=beta)


@pytest.mark.parametrize("case", TRL)
def test_trl_has_the_same_numbers(oracle, case):
    torch.testing.assert_close(TRL[case](Answers(oracle)).mean(), oracle(f"dpo/{case}"))


def test_trl_adds_the_likelihood_of_the_better_answers_as_a_mean_over_their_tokens(oracle):
    """So does ``nll_coef``; TRL's several losses are weighted sums, as ``Mixture`` is."""
    answers = Answers(oracle)
    nll = -answers.logp[:2].sum() / answers.mask[:2].sum()
    torch.testing.assert_close(nll, oracle("dpo/sft"))
    both = 0.8 * dpo(answers.delta, beta=0.1).mean() + 0.3 * nll
    torch.testing.assert_close(both, oracle("dpo/multi_sigmoid+sft"))


def test_trl_forgets_label_smoothing_in_dpo_and_this_does_not(oracle):
    delta = Answers(oracle).delta
    torch.testing.assert_close(
        dpo(delta, beta=0.1).mean(), oracle("dpo/sigmoid_label_smoothing_IGNORED")
    )
    smoothed = 0.8 * dpo(delta, beta=0.1) + 0.2 * dpo(-delta, beta=0.1)
    torch.testing.assert_close(dpo(delta, beta=0.1, soft=0.8), smoothed)
    assert (dpo(delta, beta=0.1, soft=0.8) - dpo(delta, beta=0.1)).abs().max() > 1e-3


REFERENCE_FREE = {
    "sigmoid": lambda d: dpo(d, beta=2.0),
    "hinge": lambda d: hinge(2.0 * d),
    "ipo": lambda d: ipo(d, beta=2.0),
    "simpo": lambda d: simpo(d, beta=2.0, gamma=0.5),
    "simpo_ls": lambda d: simpo(d, beta=2.0, gamma=0.5, soft=0.9),
}


@pytest.mark.parametrize("case", REFERENCE_FREE)
def test_trl_has_the_same_numbers_without_a_reference(oracle, case):
    better, worse = (oracle("cpo_orpo", f"{name}_logp") for name in ("chosen", "rejected"))
    torch.testing.assert_close(REFERENCE_FREE[case](better - worse), oracle(f"cpo/{case}"))


def test_trl_has_the_same_odds_ratio_term(oracle):
    """TRL states the term to be maximised, times λ = 0.1."""
    better, worse = (oracle("cpo_orpo", f"{name}_logp") for name in ("chosen", "rejected"))
    torch.testing.assert_close(-0.1 * orpo(better, worse), oracle("orpo/or_term_losses"))


# Starting points and optima


def test_dpo_pulls_with_half_of_beta_where_beta_is_small():
    """∂loss/∂delta → −β/2: every pair pulls alike, however well it is known already."""
    delta = _tensor(-8.0, 0.0, 3.0).requires_grad_()
    dpo(delta, beta=1e-6).sum().backward()
    torch.testing.assert_close(delta.grad, torch.full_like(delta, -0.5e-6), rtol=1e-4, atol=0)


@given(PROBABILITY)
def test_ipo_is_least_at_a_margin_that_beta_and_the_label_say(soft):
    best = _minimum(lambda x: ipo(x, beta=0.1, soft=soft))
    assert best == pytest.approx((2 * soft - 1) / 0.2, abs=1e-3)


def test_ipo_of_a_certain_label_is_least_at_half_over_beta_and_climbs_beyond():
    """DPO would go on for ever."""
    assert _minimum(lambda x: ipo(x, beta=0.1)) == pytest.approx(5.0, abs=1e-3)
    assert ipo(_tensor(9.0), beta=0.1) > ipo(_tensor(5.0), beta=0.1)
    assert dpo(_tensor(9.0), beta=0.1) < dpo(_tensor(5.0), beta=0.1)


@given(NATS, PROBABILITY)
def test_psi_po_with_the_identity_is_ipo(delta, soft):
    x, p = _tensor(delta), _tensor(soft)
    torch.testing.assert_close(
        psi_po(x, p, beta=0.2, psi=lambda q: q), ipo(x, beta=0.2, soft=p), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("soft", [0.1, 0.6, 0.95])
def test_psi_po_with_the_logit_has_the_optimum_of_dpo(soft):
    """Azar et al., proposition 1: the log-odds of the label, over β."""
    by_dpo = _minimum(lambda x: dpo(x, beta=0.1, soft=soft))
    by_psi = _minimum(lambda x: psi_po(x, torch.full_like(x, soft), beta=0.1, psi=torch.logit))
    assert by_psi == pytest.approx(by_dpo, abs=1e-2)
    assert by_psi == pytest.approx(math.log(soft / (1 - soft)) / 0.1, abs=1e-3)


@given(PROBABILITY)
def test_sppo_is_least_where_the_log_ratio_says_how_likely_the_answer_wins(win):
    best = _minimum(lambda x: sppo(x, torch.full_like(x, win), beta=0.02))
    assert best == pytest.approx((win - 0.5) / 0.02, abs=1e-3)


def test_exo_is_zero_where_the_policy_is_as_sure_as_the_label_is():
    """The divergence of (σ(m), σ(−m)) to (1 − ε, ε)."""
    sure = math.log(0.9 / 0.1) / 0.1
    assert exo_pair(_tensor(sure), beta=0.1, smoothing=0.1) == pytest.approx(0, abs=1e-12)
    even = exo_pair(_tensor(0.0), beta=0.1, smoothing=0.1)
    assert float(even) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))


# Special cases


@given(NATS, st.floats(0, 0.49))
def test_robust_dpo_of_noisy_labels_is_on_average_dpo_of_right_ones(delta, noise):
    """Enumerate both labels. cDPO, the other answer to noise, is biased."""
    x = _tensor(delta)
    as_labelled, turned = (robust_dpo(y, beta=0.1, noise=noise) for y in (x, -x))
    torch.testing.assert_close((1 - noise) * as_labelled + noise * turned, dpo(x, beta=0.1))


@given(NATS)
def test_robust_dpo_without_noise_is_dpo(delta):
    torch.testing.assert_close(
        robust_dpo(_tensor(delta), beta=0.1, noise=0.0), dpo(_tensor(delta), beta=0.1)
    )


@given(NATS, NATS)
def test_f_dpo_with_reverse_kl_is_dpo(better, worse):
    better, worse = _tensor(better), _tensor(worse)
    torch.testing.assert_close(_f_dpo("reverse_kl", better, worse), dpo(better - worse, beta=0.1))


GENERATORS = {  # f of f-DPO's table 1; its slope is what the loss uses.
    "reverse_kl": lambda r: r * r.log(),
    "forward_kl": lambda r: -r.log(),
    "js": lambda r: r * r.log() - (r + 1) * ((r + 1) / 2).log(),
    "alpha": lambda r: (r**0.5 - 0.5 * r - 0.5) / (0.5 * (0.5 - 1)),
}


@pytest.mark.parametrize("divergence", SLOPES)
def test_slopes_are_those_of_their_divergence_but_for_a_constant(divergence):
    r = _tensor(0.05, 0.5, 1.0, 3.0, 20.0).requires_grad_()
    (by_autograd,) = torch.autograd.grad(GENERATORS[divergence](r).sum(), r)
    ours = SLOPES[divergence](r.detach().log())
    torch.testing.assert_close(ours - ours[2], by_autograd - by_autograd[2])


def test_alpha_lies_between_the_two_directions_of_kl():
    """The paper's α, not TRL's: 0 is reverse and 1 forward KL."""
    u = _tensor(-2.0, 0.3, 4.0)
    torch.testing.assert_close(alpha_slope(u, alpha=1e-8), reverse_kl_slope(u))
    torch.testing.assert_close(alpha_slope(u, alpha=1.0), forward_kl_slope(u))


@pytest.mark.parametrize("divergence", SLOPES)
def test_slopes_stay_finite_for_answers_of_a_thousand_nats(divergence):
    u = torch.tensor([-1000.0, 1000.0], requires_grad=True)
    slope = SLOPES[divergence](u)
    slope.sum().backward()
    assert slope.isfinite().all()
    assert u.grad.isfinite().all()


@given(NATS, st.floats(-100, 100))
def test_length_regularised_dpo_credits_length_for_part_of_the_label(delta, longer_by):
    """A pair that length explains wholly is as if it were learnt already."""
    x, n = _tensor(delta), _tensor(longer_by)
    regularised = length_regularised_dpo(x, n, beta=0.1, alpha=0.02)
    torch.testing.assert_close(regularised, dpo(x + 0.2 * n, beta=0.1))
    plain = length_regularised_dpo(x, n, beta=0.1, alpha=0.0)
    torch.testing.assert_close(plain, dpo(x, beta=0.1))
    assert (regularised <= plain) if longer_by >= 0 else (regularised >= plain)


@given(NATS, NATS)
def test_apo_zero_moves_each_answer_by_itself_and_apo_down_the_better_one_too(better, worse):
    b, w = _tensor(better).requires_grad_(), _tensor(worse).requires_grad_()
    apo_zero(b, w, beta=0.1).sum().backward()
    slope = 0.1 * torch.sigmoid(0.1 * b) * torch.sigmoid(-0.1 * b)
    torch.testing.assert_close(b.grad, -slope)
    assert w.grad > 0
    down = _tensor(better).requires_grad_()
    apo_down(down, down - 200.0, beta=0.1).sum().backward()  # a pair that is told apart
    assert down.grad > 0


def test_apo_holds_the_bounds_it_promises():
    up, down = _tensor(1e4), _tensor(-1e4)
    assert apo_zero(up, down, beta=0.1) == 0
    assert apo_down(down, 10 * down, beta=0.1) == 0


@given(NATS)
def test_nca_lets_the_better_answer_rest_where_its_reward_is_log_two(worse):
    """−log σ(r) − ½·log σ(−r) is least at σ(r) = 2/3, whatever the other answer."""
    best = _minimum(lambda x: nca_pair(x, torch.full_like(x, worse), beta=0.1))
    assert best == pytest.approx(math.log(2) / 0.1, abs=1e-2)


@given(NATS, NATS, st.floats(-3, 3))
def test_bco_judges_each_answer_against_the_shift(better, worse, shift):
    """Two binary classifications, by Bradley-Terry against a rival whose reward is the shift."""
    b, w = _tensor(better), _tensor(worse)
    expected = bradley_terry(0.1 * b, shift) + bradley_terry(-0.1 * w, -shift)
    torch.testing.assert_close(bco_pair(b, w, beta=0.1, shift=shift), expected)


@given(NATS, st.floats(0.1, 5))
def test_a_hinge_is_silent_beyond_its_margin_and_a_line_before(x, margin):
    value = float(hinge(_tensor(x), margin=margin))
    assert value == pytest.approx(max(0.0, margin - x))


@given(NATS, NATS, st.integers(1, 50))
def test_simpo_of_equal_lengths_is_cpo_with_beta_over_the_length(better, worse, length):
    delta = _tensor(better) - _tensor(worse)
    torch.testing.assert_close(
        simpo(delta / length, beta=2.0, gamma=0.0), dpo(delta, beta=2.0 / length)
    )


def test_simpos_margin_shifts_the_reward():
    delta = _tensor(-0.7, 0.2)
    torch.testing.assert_close(
        simpo(delta, beta=2.0, gamma=0.8), simpo(delta - 0.4, beta=2.0, gamma=0.0)
    )


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_orpo_is_the_odds_ratio_of_the_two_probabilities(p, q):
    odds_better, odds_worse = p / (1 - p), q / (1 - q)
    share = odds_better / (odds_better + odds_worse)
    loss = orpo(_tensor(math.log(p)), _tensor(math.log(q)))
    assert float(loss) == pytest.approx(-math.log(share), rel=1e-6)


@pytest.mark.parametrize("logp", [0.0, -1e-9, -1e-4, -5.0, -200.0])
def test_log_odds_are_finite_however_certain_the_policy(logp):
    x = torch.tensor([logp], requires_grad=True)
    log_odds(x).sum().backward()
    assert log_odds(x).isfinite().all()
    assert x.grad.isfinite().all()


@given(NATS, st.floats(0, 5))
def test_a_margin_in_dpo_is_an_offset_to_exceed(delta, margin):
    """ODPO, with β outside: the margin is in the unit of the reward."""
    x = _tensor(delta)
    torch.testing.assert_close(
        dpo(x, beta=0.5, margin=_tensor(margin)), dpo(x - 2 * margin, beta=0.5)
    )
