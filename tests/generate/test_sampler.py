"""Prompts in, rollouts out."""

from __future__ import annotations

import pytest
import torch

from backflip.errors import UserError
from backflip.generate.engine import Engine, SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from tests.generate.reference import PROMPTS, answer_logp, greedy
from tests.models.families import tiny

STOPS = (2, 5, 17, 31)


def sampler(**settings) -> Sampler:
    engine = TorchEngine(tiny("llama"), max_rows=5)
    params = SamplingParams(max_tokens=10, stop_tokens=STOPS, temperature=0.9)
    return Sampler(engine=engine, params=params, group_size=3, **settings)


def test_rollouts_hold_what_was_drawn():
    """Rows, mask, log-probabilities and ends agree with each other and with the model."""
    sample = sampler()
    rollouts = sample(PROMPTS, seed=3)
    model = sample.engine.model
    assert len(rollouts) == 12
    assert rollouts.group.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert rollouts.steps.width == rollouts.mask.shape[1] == rollouts.logp.shape[1]
    assert 0 < rollouts.finished.sum() < 12
    for row in range(12):
        answer = rollouts.steps.answer.row(row).tolist()
        prompt = rollouts.steps.prompt.row(row).tolist()
        assert prompt == PROMPTS[row // 3]
        assert rollouts.finished[row] == (answer[-1] in STOPS)
        assert rollouts.mask[row].sum() == len(answer)
        expected = torch.zeros(rollouts.steps.width)
        expected[: len(answer)] = answer_logp(model, prompt, answer, 0.9)
        torch.testing.assert_close(rollouts.logp[row], expected, atol=1e-4, rtol=0)


def test_groups_can_be_named_and_must_match():
    assert sampler()(PROMPTS, seed=0, groups=[7, 7, 1, 0]).group.tolist()[::3] == [7, 7, 1, 0]
    with pytest.raises(UserError, match="2 groups for 4 prompts"):
        sampler()(PROMPTS, seed=0, groups=[1, 2])


def test_the_same_seed_is_the_same_batch_and_the_next_step_is_another():
    sample = sampler()
    one, again, other = (sample(PROMPTS, seed=s).steps.answer.values.tolist() for s in (1, 1, 2))
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    "settings",
    [{"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"temperature": 0.0}, {"logit_bias": {1: 1.0}}],
)
def test_what_is_not_the_policys_own_is_refused_unless_corrected_for(settings: dict):
    engine = TorchEngine(tiny("llama"))
    params = SamplingParams(**settings)
    with pytest.raises(UserError, match=next(iter(settings))):
        Sampler(engine=engine, params=params)
    Sampler(engine=engine, params=params, allow_filters=True)


def test_with_filters_the_log_probability_is_the_samplers():
    """Two equally treated tokens are left: what was drawn from has more mass than the policy."""
    engine = TorchEngine(tiny("llama"))
    params = SamplingParams(top_k=2, max_tokens=6)
    rollouts = Sampler(engine=engine, params=params, allow_filters=True)(PROMPTS, seed=0)
    for row, prompt in enumerate(PROMPTS):
        own = answer_logp(engine.model, prompt, rollouts.steps.answer.row(row).tolist())
        assert (rollouts.logp[row] > own + 1e-3).all()
    assert rollouts.logp.max() <= 0


def test_sync_makes_the_sampler_follow_the_learner():
    sample = sampler()
    other = tiny("llama", seed=7)
    sample(PROMPTS, seed=0)
    sample.sync(CausalPolicy(other))
    rollouts = sample(PROMPTS, seed=0)
    answer = rollouts.steps.answer.row(0).tolist()
    expected = answer_logp(other, PROMPTS[0], answer, 0.9)
    torch.testing.assert_close(rollouts.logp[0, : len(answer)], expected, atol=1e-4, rtol=0)


def test_the_embedded_engine_keeps_the_protocol():
    engine: Engine = TorchEngine(tiny("llama"))
    assert engine.exact
    answer = engine.generate(PROMPTS[:1], SamplingParams(temperature=0.0, max_tokens=4))[0]
    assert answer.tokens == greedy(tiny("llama"), PROMPTS[0], 4)
