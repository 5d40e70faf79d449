"""What the tests of data share: tiny tokenizers, and real data where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backflip.data.formats import load
from backflip.data.sources import write_jsonl
from tests.data.tiny import TEMPLATES, byte_tokenizer


@pytest.fixture(scope="session")
def tokenizers():
    """One byte-level tokenizer per family of templates."""
    return {name: byte_tokenizer(source) for name, source in TEMPLATES.items()}


@pytest.fixture
def loaded(tmp_path):
    """Reads rows as a file of JSON lines."""

    def load_rows(rows, kind="comparisons", **options):
        file = tmp_path / "rows.jsonl"
        write_jsonl(file, rows)
        return load(str(file), kind, **options)

    return load_rows


@pytest.fixture(scope="session")
def hh_file() -> str:
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("BACKFLIP_SHARED", str(root.parent / "shared")))
    file = folder / "data" / "hh_harmless.jsonl.gz"
    if not file.exists():
        pytest.skip("the HH-RLHF rows are not here (set BACKFLIP_SHARED)")
    return str(file)


@pytest.fixture(scope="session")
def smollm2():
    """The real tokenizer, from BACKFLIP_SMOLLM2, or from the hub's cache; never downloaded."""
    from transformers import AutoTokenizer

    folder = os.environ.get("BACKFLIP_SMOLLM2", "HuggingFaceTB/SmolLM2-135M-Instruct")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError):
        pytest.skip("SmolLM2's tokenizer is not cached (set BACKFLIP_SMOLLM2 to a folder)")
