"""A model with its tokenizer on disk, small enough to be trained in a test."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from backflip.data.sources import write_jsonl
from tests.data.tiny import CHATML, byte_tokenizer


def tiny_model(folder: Path, *, spare: int = 0, family: str = "llama") -> Path:
    """A random Llama or GPT-2 with two layers and a byte-level tokenizer with ChatML.

    ``spare``: rows of its vocabulary beyond those that the tokenizer knows. It is made once by each
    process, and copied from there.
    """
    shutil.copytree(_made(spare, family).name, folder, dirs_exist_ok=True)
    return folder


@functools.cache
def _made(spare: int, family: str) -> tempfile.TemporaryDirectory[str]:
    """The folder that copies are taken from; it goes with the process."""
    kept = tempfile.TemporaryDirectory(prefix="tiny-model-")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.eos_token = "<|im_end|>"
    shared = {
        "vocab_size": len(tokenizer) + spare,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": 0,
    }
    config = (
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=1024, **shared)
        if family == "gpt2"
        else LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            **shared,
        )
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(kept.name)
    tokenizer.save_pretrained(kept.name)
    return kept


def questions(path: Path) -> str:
    """A file of sixty short prompts."""
    write_jsonl(path, [{"prompt": f"Is {n} even?"} for n in range(60)])
    return str(path)
