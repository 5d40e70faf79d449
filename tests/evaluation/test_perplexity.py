"""Perplexity by the definition, and answers told from noise."""

from __future__ import annotations

import math

import pytest
import torch

from backflip.data.batches import TokenSteps
from backflip.evaluation.perplexity import Perplexities, measure_perplexities, perplexity
from backflip.models.causal import CausalPolicy
from backflip.models.load import load_causal
from tests.recipes.tiny import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model")))


def test_it_is_the_exponential_of_the_mean_surprise_and_infinite_for_nothing(folder: str):
    model = load_causal(folder)
    steps = TokenSteps.of([[5, 6], [7]], [[8, 9, 10], []])
    found = perplexity(CausalPolicy(model), steps, 512)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[5, 6, 8, 9, 10]])).logits[0, 1:-1]
    surprise = torch.nn.functional.cross_entropy(logits.float(), torch.tensor([8, 9, 10]))
    assert float(found[0]) == pytest.approx(math.exp(float(surprise)), rel=1e-4)
    assert found[1] == math.inf


def test_the_limit_is_the_90th_percentile_of_its_own_answers():
    own = torch.arange(1.0, 12.0)
    found = Perplexities({"after": torch.tensor([1.0, 10.0, 10.5])}, own)
    assert found.limit == pytest.approx(10.0)
    assert found.within("after") == 2


def test_nine_in_ten_of_a_models_own_answers_lie_within_and_no_empty_one_does(folder: str):
    prompts = [f"Question {i}?" for i in range(20)]
    found = measure_perplexities(
        folder, prompts, {"same": ["Hello"] * 20, "none": [""] * 20}, max_tokens=8
    )
    assert found.within("none") == 0
    assert len(found.own) == 20
    assert float((found.own <= found.limit).float().mean()) == pytest.approx(0.9)
    assert found.to_json()["same"]["answers"] == 20
