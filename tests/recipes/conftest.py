"""What the tests of recipes stand on: a tiny model, prompts, a cache of their own."""

from __future__ import annotations

import pytest

from tests.recipes.tiny import questions, tiny_model


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """What references said in one test is not heard in another."""
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny language model with a tokenizer and a template."""
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of sixty short prompts."""
    return questions(tmp_path_factory.mktemp("data") / "prompts.jsonl")
