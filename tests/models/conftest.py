"""A tokenizer for the tiny models."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.models.families import VOCABULARY


@pytest.fixture
def tokenizer():
    words = {f"w{i}": i for i in range(VOCABULARY)}
    plain = Tokenizer(models.WordLevel(words, unk_token="w0"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    # Padding is the end of turn, as in SmolLM2: the trap that classifiers fall into.
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="w2", pad_token="w2", unk_token="w0"
    )
