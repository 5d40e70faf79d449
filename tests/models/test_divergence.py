"""The exact KL of two policies, against the definition and against estimates of it."""

from __future__ import annotations

import copy

import pytest
import torch

from backflip.data.batches import TokenSteps
from backflip.functional.kl import kl_exact
from backflip.models.causal import CausalPolicy
from backflip.models.divergence import exact_kl
from backflip.models.lora import LoraSettings, add_lora
from tests.models.families import VOCABULARY, tiny


def two(family: str) -> tuple[CausalPolicy, CausalPolicy]:
    model = tiny(family)
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return CausalPolicy(model, temperature=0.7), CausalPolicy(other, temperature=0.7)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_of_answers_of_one_token_it_is_the_sum_over_all_of_them(family: str):
    """By ``evaluate``: Σ over the vocabulary of π (log π − log π_ref). Gemma 2 caps its logits."""
    policy, reference = two(family)
    every = TokenSteps.of([[3, 9, 4]] * VOCABULARY, [[token] for token in range(VOCABULARY)])
    with torch.no_grad():
        ours, theirs = (m.evaluate(every)["logp"][:, 0] for m in (policy, reference))
    expected = float((ours.exp() * (ours - theirs)).sum())
    found = exact_kl(policy, reference, every[torch.tensor([5])], 4096)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_of_an_answer_it_is_the_sum_over_its_tokens_however_it_is_cut():
    policy, reference = two("llama")
    steps = TokenSteps.of([[3, 9], [3, 9], [4]], [[5, 6, 7], [8], [2, 2]])
    found = exact_kl(policy, reference, steps, 4096)
    torch.testing.assert_close(exact_kl(policy, reference, steps, 6), found)
    by_token = [
        exact_kl(policy, reference, TokenSteps.of([[3, 9, *said]], [[token]]), 4096)
        for said, token in (([], 5), ([5], 6), ([5, 6], 7))
    ]
    torch.testing.assert_close(found[:1], torch.stack(by_token).sum(0), rtol=1e-4, atol=1e-5)


def test_a_policy_is_at_no_distance_from_itself_nor_from_its_base_before_it_learns():
    model = add_lora(tiny("llama"), LoraSettings(rank=2))
    policy = CausalPolicy(model)
    steps, reference = TokenSteps.of([[3, 9]], [[5, 6, 7]]), policy.reference()
    assert float(exact_kl(policy, reference, steps, 4096)) == 0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.5)
    assert float(exact_kl(policy, reference, steps, 4096)) > 0


def test_it_is_never_negative():
    p = torch.randn(50, 7).log_softmax(-1)
    assert bool((kl_exact(p, p + 0.0) == 0).all())
    assert bool((kl_exact(p, p.roll(1, 0)) > 0).all())
