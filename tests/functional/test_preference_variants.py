"""Losses and weights that no recipe ships: against TRL, and by their special cases."""

import pytest
import torch

from backflip.functional.preference_losses import dpo, simpo
from backflip.functional.preference_variants import (
    alpha_po,
    aot,
    aot_unpaired,
    discopop,
    ld_weights,
    wpo_weight,
)


@pytest.fixture(scope="module")
def stored(oracle):
    return {name: oracle("dpo", name) for name in ("mask", "pi", "ref", "log_sum_sq_probs")}


def _sums(stored, weight=None):
    """log-likelihoods of the two better and the two worse answers, policy and reference."""
    weight = stored["mask"] if weight is None else weight
    logp, logp_ref = ((stored[name] * weight).sum(-1) for name in ("pi", "ref"))
    return *logp.chunk(2), *logp_ref.chunk(2)


def test_trl_couples_the_same_quantiles(oracle, stored):
    better, worse, better_ref, worse_ref = _sums(stored)
    paired = aot(better - worse, better_ref - worse_ref, beta=0.1)
    torch.testing.assert_close(paired.mean(), oracle("dpo/aot"))
    ratios = better - better_ref, worse - worse_ref
    torch.testing.assert_close(aot_unpaired(*ratios, beta=0.1).mean(), oracle("dpo/aot_unpaired"))
    smoothed = aot_unpaired(*ratios, beta=0.1, label_smoothing=0.2)
    torch.testing.assert_close(smoothed.mean(), oracle("dpo/aot_unpaired_ls"))


def test_trl_blends_the_same_two_losses_in_discopop(oracle, stored):
    better, worse, better_ref, worse_ref = _sums(stored)
    delta = better - better_ref - worse + worse_ref
    torch.testing.assert_close(discopop(delta, beta=0.1).mean(), oracle("dpo/discopop"))


def test_trl_weighs_pairs_alike_in_wpo(oracle, stored):
    better, worse, better_ref, worse_ref = _sums(stored)
    loss = dpo(better - better_ref - worse + worse_ref, beta=0.1)
    weight = wpo_weight(stored["pi"], stored["log_sum_sq_probs"], stored["mask"])
    both = weight[:2] * weight[2:]
    torch.testing.assert_close((loss * both).mean(), oracle("dpo/wpo_weighting"))


def test_trl_discounts_the_same_tokens_in_ld_dpo(oracle, stored):
    mask = stored["mask"]
    first, second = mask[:2], mask[2:]
    weight = torch.cat([ld_weights(first, second, alpha=0.3), ld_weights(second, first, alpha=0.3)])
    better, worse, better_ref, worse_ref = _sums(stored, weight)
    loss = dpo(better - better_ref - worse + worse_ref, beta=0.1)
    torch.testing.assert_close(loss.mean(), oracle("dpo/ld_dpo_alpha0.3"))


def test_trl_shapes_rewards_alike_in_alpha_po(oracle):
    better, worse = (oracle("cpo_orpo", f"{name}_logp") for name in ("chosen", "rejected"))
    loss = alpha_po(better, worse, beta=2.0, gamma=0.5, alpha=0.25)
    torch.testing.assert_close(loss, oracle("cpo/alphapo"))


def test_alpha_po_becomes_simpo():
    better, worse = torch.tensor([-0.3, -2.0]).double(), torch.tensor([-1.0, -0.5]).double()
    torch.testing.assert_close(
        alpha_po(better, worse, beta=2.0, gamma=0.5, alpha=1e-9),
        simpo(better - worse, beta=2.0, gamma=0.5),
    )


def test_aot_of_one_pair_is_dpo_and_of_several_does_not_mind_who_met_whom():
    better, worse = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 3.0, -1.0])
    torch.testing.assert_close(
        aot_unpaired(better[:1], worse[:1], beta=0.1), dpo(better[:1] - worse[:1], beta=0.1)
    )
    torch.testing.assert_close(
        aot_unpaired(better, worse[torch.tensor([2, 0, 1])], beta=0.1),
        aot_unpaired(better, worse, beta=0.1),
    )


def test_aot_is_content_where_the_policy_has_the_distribution_of_the_reference():
    """Same differences, other pairs: coupled by size, every one is as it was."""
    delta = torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(aot(delta, delta.flip(0), beta=0.1), dpo(torch.zeros(3), beta=0.1))


def test_ld_weights_spare_what_both_answers_have_and_user_turns_count_nothing():
    mine = torch.tensor([[True, False, True, True, True], [True, False, False, False, False]])
    other = torch.tensor([[True, True, False], [True, True, True]])
    expected = torch.tensor([[1.0, 0.0, 1.0, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(ld_weights(mine, other, alpha=0.5), expected)


def test_wpo_weighs_an_answer_of_a_uniform_policy_as_one_of_its_own_and_lets_no_gradient_by():
    logp = torch.full((1, 4), 1 / 8).log().requires_grad_()
    collision = torch.full((1, 4), 1 / 8).log()  # Σ (1/8)² over 8 tokens
    weight = wpo_weight(logp, collision, torch.tensor([[True, True, True, False]]))
    torch.testing.assert_close(weight, torch.ones(1))
    assert not weight.requires_grad
