"""Tiny language models made on the spot, which read character by character: ``scratch:96x3``.

They know nothing: a few minutes on two cores show whether a method learns, without any download.
"""

from __future__ import annotations

import re
import string
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from backflip.errors import UserError
from backflip.models.smollm2 import cache_folder

__all__ = ["find", "is_one", "is_tiny", "sizes"]

NAME = "scratch"
ADDRESS = re.compile(r"scratch(?::(\d+)x(\d+))?")
WIDTH, LAYERS = 96, 3
HEAD = 24
"""Width of an attention head."""
POSITIONS = 1024
TINY = 20_000_000
"""Bytes of weights below which nobody's published rates apply: 5 million parameters."""
SPECIAL = ("<pad>", "</s>", "<unk>")
CHARACTERS = string.digits + string.ascii_letters + string.punctuation + " \n"
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '\\n' }}{% endfor %}"
)
"""A turn of the user ends its line, one of the assistant ends the text."""
VERSION = 1
"""Part of the folder's name: another one where the weights or the tokenizer would differ."""


def find(name: str) -> str:
    """The folder of ``scratch`` or ``scratch:WIDTHxLAYERS``, made if need be.

    The weights are the same wherever it is made. Raises UserError for sizes that cannot be.
    """
    width, layers = sizes(name)
    folder = cache_folder() / f"{NAME}-{width}x{layers}-{VERSION}"
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            tokenizer, whole = _tokenizer(), Path(work) / "model"
            _model(width, layers, tokenizer).save_pretrained(whole)
            tokenizer.save_pretrained(whole)
            with suppress(OSError):  # another process was first
                whole.rename(folder)
    return str(folder)


def is_one(name: str) -> bool:
    """Whether a name asks for a model from scratch."""
    return name.partition(":")[0] == NAME


def is_tiny(name: str) -> bool:
    """Whether a name asks for a model of a few megabytes: from scratch, or trained from there."""
    weights = [Path(name) / inner / "model.safetensors" for inner in ("", "model")]
    return is_one(name) or any(file.is_file() and file.stat().st_size < TINY for file in weights)


def sizes(name: str) -> tuple[int, int]:
    """(width, layers) of a name. Raises UserError for what cannot be; loads nothing."""
    found = ADDRESS.fullmatch(name)
    said = found.groups() if found else ("0", "0")
    width, layers = int(said[0] or WIDTH), int(said[1] or LAYERS)
    if width % HEAD or not 0 < width <= 1536 or not 0 < layers <= 48:
        raise UserError(
            f"{name!r} is no model from scratch. Write scratch:WIDTHxLAYERS, the width a multiple "
            f"of {HEAD} up to 1536, up to 48 layers: {NAME}:{WIDTH}x{LAYERS}."
        )
    return width, layers


def _tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate((*SPECIAL, *CHARACTERS))}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    raw.decoder = decoders.Fuse()
    pad, end, unknown = SPECIAL
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=pad,
        eos_token=end,
        unk_token=unknown,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made


def _model(width: int, layers: int, tokenizer: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=round(8 * width / 3 / 32) * 32,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        max_position_embeddings=POSITIONS,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config)
