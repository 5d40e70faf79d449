"""The table of ``versus_trl.py`` on a CUDA device: random weights, two sizes, bfloat16.

    python benchmarks/cuda.py --peer-python .venv-trl/bin/python

Writes ``cuda.json``; results of works that are not run again are kept. Without a device it says so
on one line and leaves with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import report
import torch
from versus_trl import HERE, WORKS, compare
from workloads import hh_source

SHAPES = {
    "0.5B": (24, 896, 4864, 14, 2),
    "3B": (36, 2048, 11008, 16, 2),
}
"""Layers, width, width of the gated layer, heads, key-value heads: those of Qwen 2.5."""
VOCABULARY = 151_936
WARMUPS = 3
"""Steps before the timed ones: kernels are compiled, and each new shape finds its libraries."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with TRL")
    parser.add_argument("--tokenizer", default="smollm2", help="whose template the rows are put in")
    parser.add_argument("--data", default=hh_source(), help="comparisons: a file or a hub name")
    parser.add_argument("--batches", type=int, default=6, help="timed, after the warm-ups")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--out", type=Path, default=HERE, help="folder of cuda.json")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench-cuda: skipped, this machine has no CUDA device")
        return
    # In this process: a pool of compilers would still be starting beside the timed steps.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            save_random(Path(folder), given.tokenizer, SHAPES[size])
            for row in compare(
                given.works,
                folder,
                given.data,
                peer=given.peer_python,
                batches=given.batches,
                dtype="bfloat16",
                warmups=WARMUPS,
            ):
                keep(given.out / "cuda.json", size, row)
    if (given.out / "results.json").is_file():
        report.renewed(given.out)


def keep(path: Path, size: str, found: report.Row) -> None:
    """Beside what an earlier run measured."""
    rows: list[report.Row] = json.loads(path.read_text()) if path.is_file() else []
    rows = [row for row in rows if (row["size"], row["work"]) != (size, found["work"])]
    rows.append({"size": size, "warmups": WARMUPS} | found)
    order, sizes = list(report.NAMES.values()), list(SHAPES)
    rows.sort(key=lambda row: (sizes.index(row["size"]), order.index(row["work"])))
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def save_random(folder: Path, tokenizer: str, shape: tuple[int, int, int, int, int]) -> None:
    """A Qwen 2 of this shape with random weights, and a tokenizer with a chat template."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from backflip.models.load import load_tokenizer

    layers, width, inner, heads, shared = shape
    words = load_tokenizer(tokenizer)
    config = Qwen2Config(
        vocab_size=max(VOCABULARY, len(words)),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        tie_word_embeddings=True,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)


if __name__ == "__main__":
    main()
