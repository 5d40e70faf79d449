"""What the tests of clusters stand on: a tiny model, and prompts."""

from __future__ import annotations

import pytest

from tests.recipes.tiny import questions, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny language model with a tokenizer and a template."""
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of sixty short prompts."""
    return questions(tmp_path_factory.mktemp("data") / "prompts.jsonl")
