"""Computing in bfloat16 must lose neither small updates nor the heads."""

from __future__ import annotations

import pytest
import torch

from backflip.data.batches import TokenSteps
from backflip.models.attention import forest_attention
from backflip.models.causal import CausalPolicy
from backflip.models.forest import plant
from backflip.models.heads import RewardModel, ValueModel
from backflip.models.load import load_causal, masters
from backflip.training.learner import make_optimizer
from tests.models.families import CONFIGS, VOCABULARY, tiny
from tests.models.test_policy_forest import naive_logp, ragged_steps


def every_token() -> TokenSteps:
    """Prompts that hold the whole vocabulary, so that every embedding has a gradient."""
    whole = list(range(VOCABULARY))
    return TokenSteps.of([whole, whole[::-1]], [[5, 6, 7, 8, 2], [9, 30, 12, 2]])


def test_a_small_step_in_bfloat16_moves_the_weights(tmp_path):
    """3e-6 is 1e-5 of a weight of 0.25, far below the 1/256 that bfloat16 can tell apart."""
    tiny("llama").save_pretrained(tmp_path)
    weights, compute = masters("bfloat16", adapted=False)
    model = load_causal(str(tmp_path), precision=weights)
    policy = CausalPolicy(model, compute=compute)
    before = [p.detach().clone() for p in policy.parameters()]
    (-policy.evaluate(every_token())["logp"].sum()).backward()
    make_optimizer(policy, lr=3e-6).step()
    moved = sum(int((p != b).sum()) for p, b in zip(policy.parameters(), before, strict=True))
    assert moved > 0.99 * sum(b.numel() for b in before)


def test_only_weights_that_learn_are_kept_in_float32():
    assert masters("bfloat16", adapted=False) == ("float32", torch.bfloat16)
    assert masters("bfloat16", adapted=True) == ("bfloat16", None)
    assert masters("float32", adapted=False) == ("float32", None)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "trained"])
def test_bfloat16_is_float32_but_for_rounding(family, learns):
    """Rounding at 2⁻⁸ moves log-probabilities by some hundredths; a wrong cast by whole nats."""
    steps, model = ragged_steps(), tiny(family)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
        exact = naive_logp(model, steps)
    if learns:
        policy = CausalPolicy(model, compute=torch.bfloat16)
    else:
        policy = CausalPolicy(model.to(torch.bfloat16))
    policy.add_value_head()
    out = policy.evaluate(steps, ("logp", "entropy_to_raise", "values"))
    torch.testing.assert_close(out["logp"], exact, atol=0.15, rtol=0.02)
    assert (out["logp"] - exact).abs().max() > 1e-5, "this was computed in float32"
    assert all(x.dtype == torch.float32 for x in out.values())


def test_gradients_in_bfloat16_point_where_those_in_float32_point():
    steps, gradients = ragged_steps(), []
    for compute in (None, torch.bfloat16):
        model = tiny("llama")
        model.gradient_checkpointing_enable({"use_reentrant": False})
        policy = CausalPolicy(model.train(), compute=compute)
        policy.evaluate(steps)["logp"].sum().backward()
        found = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(g.dtype == torch.float32 for g in found)
        gradients.append(torch.cat([g.flatten() for g in found]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.995


@pytest.mark.parametrize("compute", [None, torch.bfloat16], ids=["own", "autocast"])
def test_scores_and_values_keep_their_heads_in_float32(compute):
    steps = ragged_steps()
    exact = RewardModel(tiny("llama"))
    model = tiny("llama") if compute else tiny("llama").to(torch.bfloat16)
    judge = RewardModel(model, compute=compute)
    judge.score.load_state_dict(exact.score.state_dict())
    torch.testing.assert_close(judge.raw_scores(steps), exact.raw_scores(steps), atol=0.1, rtol=0.1)
    head = exact.score.weight.detach()
    values = ValueModel(model, head, compute=compute).values(steps)
    expected = ValueModel(tiny("llama"), head).values(steps)
    torch.testing.assert_close(values, expected, atol=0.1, rtol=0.1)
    assert (values - expected).abs().max() > 1e-4, "this was computed in float32"


def test_queries_that_a_rotation_widened_meet_the_values_in_bfloat16():
    """FlexAttention takes three tensors of one type only; so does a CPU outside autocast."""
    wide, forest = torch.randn(1, 2, 6, 8), plant([[5, 6, 7, 8, 9, 10]])
    out, _ = forest_attention(torch.nn.Identity(), wide, wide, wide.bfloat16(), forest=forest)
    exact, _ = forest_attention(torch.nn.Identity(), wide, wide, wide, forest=forest)
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)
