"""Backflip and TRL on a CUDA device: random weights in bfloat16, three sizes, batches that fill it.

    python benchmarks/on_cuda.py --peer-python .venv-trl/bin/python
    python benchmarks/on_cuda.py --peer-python .venv-trl/bin/python --dry-run --out FOLDER

Writes ``cuda.json`` after each row; rows that are not run again are kept. Rows come by importance
until ``--minutes`` are over; what is left out is said. A dry run goes the same way with tiny models
on a processor, and its numbers mean nothing. Leaves with 1 where rows are missing; without a device
it says so on one line and leaves with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cuda_report
import report
import torch
from rates import peak, rate
from versus_trl import HERE, OutOfMemoryError, Side, row_of, run
from workloads import ANSWER_TOKENS, GROUP, Rows, Workload, build, hh_source

from backflip.models.load import device, load_tokenizer, quiet, resolve


@dataclass(frozen=True)
class Size:
    """Shape of a model, and how it is taught."""

    kind: str
    """A type of transformers."""
    layers: int
    width: int
    inner: int
    """Width of the gated layers."""
    heads: int
    keys: int
    """Heads of keys and values."""
    vocabulary: int
    at_once: int
    """Sequences of 512 tokens that fit beside each other on either side: reckoned for 140 GB,
    without activation checkpointing. Halved where they do not."""
    lora: bool = False


SIZES = {
    "0.5B": Size("qwen2", 24, 896, 4_864, 14, 2, 151_936, at_once=64),
    "3B": Size("qwen2", 36, 2_048, 11_008, 16, 2, 151_936, at_once=16),
    "8B": Size("llama", 32, 4_096, 14_336, 32, 8, 128_256, at_once=8, lora=True),
}
"""Qwen 2.5 and Llama 3.1."""
EXPECTED = {
    "dpo:3B": 85, "dpo:8B": 120, "dpo:0.5B": 65,
    "grpo:3B": 140, "grpo:0.5B": 90, "grpo:8B": 190,
    "sft:3B": 65, "sft:8B": 90, "sft:0.5B": 50,
}  # fmt: skip
"""Rows by importance, and the seconds that both sides are expected to take on one H200: reckoned,
not measured. A row that needs more than is left is not begun; one that takes twice as much ends."""
FULL, WARMUPS, BATCHES = Rows(pairs=64, conversations=64, prompts=32), 2, 3
"""Rows of a step; steps before the timed ones, in which kernels are compiled; timed steps."""
TINY, TINY_EXPECTED = Rows(pairs=2, conversations=4, prompts=1), 90
"""Of a dry run, in which the same is cut into micro-batches and one step is timed after one."""


@dataclass(frozen=True)
class Bench:
    """All that rows have in common."""

    given: argparse.Namespace
    folder: Path
    """Where models lie, each made once."""
    load: Workload

    def model(self, name: str) -> str:
        """The folder of a model of this size with random weights."""
        folder = self.folder / name
        if not folder.is_dir():
            save_random(folder, self.given.tokenizer, self.shape(name))
        return str(folder)

    def shape(self, name: str) -> Size:
        size = SIZES[name]
        if not self.given.dry_run:
            return size
        words = len(load_tokenizer(self.given.tokenizer))
        return replace(
            size, layers=2, width=64, inner=128, heads=4, keys=2, vocabulary=words, at_once=2
        )

    def row(self, name: str, ends: float) -> report.Row:
        """Both sides of a row, as far as they are done by ``ends``; raises SystemExit else."""
        work, size = name.split(":")
        shape = self.shape(size)
        load = self.load.copy()
        load["model"], load["lora"] = self.model(size), shape.lora
        commands = {"ours": (sys.executable, "ours.py")}
        if not self.given.no_peer:
            commands["peer"] = (self.given.peer_python, "peer.py")
        sides = {
            side: self.fitting(*command, work, load, shape.at_once, ends)
            for side, command in commands.items()
        }
        title = cuda_report.NAMES[work].format(
            pairs=len(load["pairs"][0]),
            conversations=len(load["demonstrations"][0]),
            prompts=len(load["prompts"][0]),
            group=GROUP,
            tokens=ANSWER_TOKENS,
        )
        batches = self.given.batches
        found = row_of(work, sides, batches=batches, dtype=load["dtype"], name=title)
        about = {"key": work, "size": size, "lora": shape.lora, "peak": peak(found["machine"])}
        about["warmups"] = len(load["pairs"]) - batches
        about["dry_run"] = self.given.dry_run
        return about | found | {f"{side}_at_once": sides[side]["at_once"] for side in sides}

    def fitting(
        self, python: str, script: str, work: str, load: Workload, at_once: int, ends: float
    ) -> Side:
        """A side with as many sequences at once as fit, and their number."""
        path = self.folder / "workload.json"
        while True:
            load["at_once"] = at_once
            path.write_text(json.dumps(load))
            try:
                found = run(python, script, work, path, limit=max(1.0, ends - time.monotonic()))
                return found | {"at_once": at_once}
            except OutOfMemoryError:
                if at_once == 1:
                    raise
                print(f"{script} {work}: {at_once} sequences at once do not fit", flush=True)
                at_once //= 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with TRL")
    parser.add_argument("--no-peer", action="store_true", help="our side alone")
    parser.add_argument("--tokenizer", default="smollm2", help="whose template the rows are put in")
    parser.add_argument("--data", default=hh_source(), help="comparisons: a file or a hub name")
    parser.add_argument("--minutes", type=float, default=13.0, help="for all rows together")
    parser.add_argument("--batches", type=int, help=f"timed, after {WARMUPS} warm-ups")
    parser.add_argument("--rows", nargs="+", choices=EXPECTED, default=list(EXPECTED))
    parser.add_argument("--out", type=Path, help="folder of cuda.json")
    parser.add_argument("--dry-run", action="store_true", help="tiny models; give --out")
    given = parser.parse_args()
    if given.dry_run and given.out is None:
        parser.error("--dry-run needs --out, for its numbers mean nothing")
    given.out = given.out or HERE
    if given.dry_run and (given.out / "results.json").is_file():
        parser.error(f"{given.out} holds measured results: give a dry run another folder")
    given.batches = given.batches or (1 if given.dry_run else BATCHES)
    return given


def main() -> None:
    given, began = arguments(), time.monotonic()
    if not given.dry_run and not torch.cuda.is_available():
        print("bench-cuda: skipped, this machine has no CUDA device")
        return
    # In this process: a pool of compilers would still be starting beside the timed steps.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    given.out.mkdir(parents=True, exist_ok=True)
    if given.dry_run:
        print("dry run: tiny models and a few rows; its numbers mean nothing", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        load = workload(given)
        left_out = made(Bench(given, Path(folder), load), began + 60 * given.minutes)
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    if left_out:
        print(f"to make these: --rows {' '.join(left_out)}")
        sys.exit(1)
    print(f"all of the {len(given.rows)} rows are made, in {time.monotonic() - began:.0f} s")


def workload(given: argparse.Namespace) -> Workload:
    """What all rows learn from, and this device's rate of products."""
    rows, warmups, side = (TINY, 1, 256) if given.dry_run else (FULL, WARMUPS, 8192)
    batches = given.batches + warmups - 1
    load = build(resolve(given.tokenizer), given.data, batches=batches, dtype="bfloat16", rows=rows)
    load["rate"] = rate(side, side, side, torch.bfloat16)
    sheet = peak(report.machine())
    print(
        f"{report.machine()}: {load['rate'] / 1e12:,.2f} TFLOP/s in products of {side:,} in "
        f"bfloat16; data sheet: {f'{sheet / 1e12:,.0f}' if sheet else 'not known'}",
        flush=True,
    )
    return load


def made(bench: Bench, ends: float) -> dict[str, str]:
    """Rows that were left out, and why; those that were not are kept as they come."""
    left_out, given = dict[str, str](), bench.given
    for name in given.rows:
        expected = TINY_EXPECTED if given.dry_run else EXPECTED[name]
        left = ends - time.monotonic()
        if left < expected:
            left_out[name] = f"{left:.0f} s were left, and it is expected to take {expected}"
            continue
        share = min(left, 2 * expected)
        print(f"{name}: {left:.0f} s left, of which it has {share:.0f}", flush=True)
        try:
            keep(given, bench.row(name, time.monotonic() + share))
        except SystemExit as error:
            left_out[name] = str(error)
    return left_out


def keep(given: argparse.Namespace, found: report.Row) -> None:
    """Beside what an earlier run measured."""
    path = given.out / "cuda.json"
    rows: list[report.Row] = json.loads(path.read_text()) if path.is_file() else []
    rows = [r for r in rows if (r["size"], r.get("key")) != (found["size"], found["key"])]
    order, sizes = [None, *cuda_report.NAMES], list(SIZES)
    rows.append(found)
    rows.sort(key=lambda row: (order.index(row.get("key")), sizes.index(row["size"])))
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    if (given.out / "results.json").is_file():
        report.renewed(given.out)
        return
    (given.out / "cuda.md").write_text("\n".join(cuda_report.part(rows)))


def save_random(folder: Path, tokenizer: str, size: Size) -> None:
    """A model of this shape with random weights, and a tokenizer with a chat template."""
    from transformers import AutoConfig, AutoModelForCausalLM

    words = load_tokenizer(tokenizer)
    config = AutoConfig.for_model(
        size.kind,
        vocab_size=max(size.vocabulary, len(words)),
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.keys,
        tie_word_embeddings=not size.lora,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    torch.manual_seed(0)
    with device(), quiet():  # on a device billions of numbers are drawn in no time
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)
    words.save_pretrained(folder)
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
