"""A copy of the weights in bfloat16 writes answers: near the learner, and never said to be it."""

from __future__ import annotations

import pytest
import torch

from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.torch import engine as engines
from backflip.generate.torch.engine import TorchEngine
from backflip.generate.torch.weights import has_bfloat16
from backflip.recipes.load import load_recipe
from tests.generate.reference import PROMPTS, answer_logp
from tests.models.families import tiny

PARAMS = SamplingParams(max_tokens=12, stop_tokens=(2,))
NARROW = pytest.mark.skipif(not has_bfloat16(), reason="no bfloat16 in this processor")


@NARROW
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_answers_in_bfloat16_are_near_the_learner_and_not_its_own(family: str):
    """Their log-probabilities move by rounding of 8 bits: more than exact ones, far less than 1."""
    model = tiny(family)
    engine = TorchEngine(model, precision="bfloat16")
    apart = [
        (torch.tensor(a.logp) - answer_logp(model, PROMPTS[a.prompt_index], a.tokens)).abs()
        for a in engine.generate(PROMPTS, PARAMS, group=4)
    ]
    assert 1e-4 < float(torch.cat(apart).mean()) < 0.1
    assert not engine.exact


@NARROW
def test_an_answer_in_bfloat16_does_not_depend_on_its_company():
    model = tiny("llama")
    together = TorchEngine(model, precision="bfloat16").generate(PROMPTS, PARAMS, group=3)
    alone = TorchEngine(model, precision="bfloat16", max_rows=1).generate(PROMPTS, PARAMS, group=3)
    assert [a.tokens for a in alone] == [a.tokens for a in together]


@NARROW
def test_weights_that_have_learnt_are_seen_in_bfloat16_too():
    model = tiny("llama")
    engine = TorchEngine(model, precision="bfloat16")
    engine.generate(PROMPTS, PARAMS)
    other = tiny("llama", seed=5)
    engine.sync(other)
    for a in engine.generate(PROMPTS, PARAMS):
        expected = answer_logp(other, PROMPTS[a.prompt_index], a.tokens)
        assert float((torch.tensor(a.logp) - expected).abs().mean()) < 0.2


@NARROW
def test_a_model_without_a_copy_is_refused_rather_than_written_otherwise():
    with pytest.raises(UserError, match=r"no copy in bfloat16.*not of the Llama family"):
        TorchEngine(tiny("gpt2"), precision="bfloat16").generate(PROMPTS, PARAMS)


def test_a_processor_without_bfloat16_is_refused_in_recipe_and_engine(monkeypatch):
    monkeypatch.setattr(engines, "has_bfloat16", lambda: False)
    with pytest.raises(UserError, match="which this processor does not know"):
        TorchEngine(tiny("llama"), precision="bfloat16")
    with pytest.raises(UserError, match=r"engine.*precision.*float8"):
        load_recipe("grpo", {"model": "m", "reward": "m", "engine": {"precision": "float8"}})
