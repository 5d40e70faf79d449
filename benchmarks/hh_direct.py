"""Five methods on the same 1,500 comparisons of HH, one epoch each with LoRA.

    python benchmarks/hh_direct.py --runs runs/hh              resumes what was interrupted
    python benchmarks/hh_direct.py --runs runs/hh --works kto  one of them

Each is what a user runs: ``backflip train METHOD``, with its own defaults. All learn from the same
prompts and are judged by the same held-out comparisons. KTO gets one answer of each pair, good or
bad by turns: as many rows as the others, the ``one-y-per-x`` setting of its paper (§4.3). Writes
hh_direct.json, from which RESULTS.md is made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from report import METHODS, machine, renewed
from versus_trl import HERE
from workloads import hh_source

from backflip.data.records import Comparison, Labelled
from backflip.data.sources import write_jsonl
from backflip.data.splits import split_by_prompt
from backflip.data.writing import as_row
from backflip.stages.sources import load

HELD_OUT, SEED = 0.118, 0
"""Of the prompts; 0.118 of the file leaves about 1,500 rows to learn from and 200 to judge by."""
LENGTH = 256
"""Tokens of prompt and answer; longer prompts lose their beginning."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, kept")
    parser.add_argument("--works", nargs="+", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--model", default="smollm2", help="a folder, a hub name, or smollm2")
    parser.add_argument("--data", default=hh_source(), help="comparisons: a file or a hub name")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of hh_direct.json")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    prepare(given.data, given.runs)
    for method in given.works:
        train(method, given.runs, given.model)
    rows = [found(method, given.runs) for method in METHODS if finished(given.runs / method)]
    table = {"machine": machine(), "length": LENGTH, "rows": rows}
    (given.out / "hh_direct.json").write_text(json.dumps(table, indent=2) + "\n")
    renewed(given.out)


def prepare(source: str, runs: Path) -> None:
    """Write the rows of all runs, the same at every call."""
    records = [r for r in load(source, Comparison).records if not r.tied]
    train, held = split_by_prompt(records, held_out=HELD_OUT, seed=SEED)
    write_jsonl(runs / "train.jsonl", map(as_row, train))
    write_jsonl(runs / "held_out.jsonl", map(as_row, held))
    write_jsonl(runs / "one_answer.jsonl", map(as_row, one_answer(train)))


def one_answer(records: Iterable[Comparison]) -> Iterable[Labelled]:
    """Of each comparison one answer: of the first the better, of the second the worse."""
    for number, r in enumerate(records):
        good = number % 2 == 0
        answer = r.best if good else r.answers[r.rank.index(max(r.rank))]
        yield Labelled(r.prompt, answer, good)


def finished(run: Path) -> bool:
    return (run / "summary.json").is_file()


def train(method: str, runs: Path, model: str) -> None:
    """Train by one method, or go on."""
    run = runs / method
    rows = "one_answer.jsonl" if method == "kto" else "train.jsonl"
    new = ["train", method, f"model={model}", f"data={runs / rows}", f"run={run}"]
    new += [f"data.validation={runs / 'held_out.jsonl'}", f"data.max_length={LENGTH}"]
    new += ["data.too_long=cut", "eval_every=1000", "sampled_prompts=0", "checkpoint_every=20"]
    carry_on(run, new)


def carry_on(run: Path, new: list[str]) -> None:
    """Begin a run by this command, or go on with what there is of it."""
    if finished(run):
        return
    call = ["resume", str(run)] if (run / "recipe.yaml").is_file() else new
    subprocess.run([sys.executable, "-m", "backflip", *call], check=True)


def found(method: str, runs: Path) -> dict[str, Any]:
    """The row of a finished run; its minutes are those of its own clock, over all attempts."""
    summary = json.loads((runs / method / "summary.json").read_text())
    last = (runs / method / "metrics.jsonl").read_text().splitlines()[-1]
    interval = [f"accuracy{end}" for end in ("", "_low", "_high")]
    shorter = [f"baseline_shorter{end}" for end in ("", "_low", "_high")]
    names = ("rows", "pairs", *interval, *shorter)
    minutes = float(json.loads(last)["time"]) / 60
    return {"method": method, "minutes": minutes} | {name: summary[name] for name in names}


if __name__ == "__main__":
    main()
