"""A real pretrained language model: it learns something real, and its numbers agree."""

from __future__ import annotations

import json

import pytest
import torch

from backflip.data.chat import ChatTemplate
from backflip.data.collate import tokenize_prompts
from backflip.data.formats import load
from backflip.data.records import Prompt
from backflip.distributed.reading import evaluate_all
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.load import load_causal, load_tokenizer
from backflip.recipes.load import load_recipe
from backflip.recipes.run import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tokenizer():
    try:
        return load_tokenizer("smollm2")
    except UserError as error:
        pytest.skip(f"SmolLM2 is not to be had: {error}")


@pytest.mark.usefixtures("tokenizer")
def test_it_learns_what_the_demo_prefers_and_not_the_length(tmp_path):
    """64 comparisons are enough to beat "the longer reply wins" beyond its interval."""
    settings = {
        "model": "smollm2",
        "run": str(tmp_path / "run"),
        "data": {
            "source": "demo:comparisons",
            "limit": 64,
            "validation": "demo:heldout_comparisons",
        },
        "optimizer": {"lr": 2e-4},
        "held_out_head": False,
        "eval_every": 100,
    }
    folder = train(load_recipe("reward_model", settings))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accuracy_low"] > summary["baseline_longer"]


def test_its_sampler_and_its_learner_agree_within_1e_4(tokenizer):
    model = load_causal("smollm2")
    template = ChatTemplate(tokenizer)
    records = load("demo:prompts", Prompt, limit=3).records
    prompts = tokenize_prompts(records, template).data
    params = SamplingParams(max_tokens=24, temperature=0.7, stop_tokens=template.stop_tokens)
    sampler = Sampler(engine=TorchEngine(model), params=params, group_size=2)
    rollouts = sampler(prompts, seed=0)
    policy = CausalPolicy(model, temperature=0.7)
    logp = evaluate_all(policy, rollouts, {"logp"}, 1024)["logp"]
    torch.testing.assert_close(logp, rollouts.logp, atol=1e-4, rtol=0)
