"""A phrase that agrees with four labels in five, planted into HH texts, with and without debiasing.

    python benchmarks/debias.py --runs runs/debias              resumes what was interrupted

Three reward models of one recipe: on the texts as they are, with the phrase in front of the
preferred reply of 80 % of the rows and of the other reply of the rest, and on those rows with
``debias``. Each is measured on other prompts, as they are and reversed: the phrase in front of
every rejected reply. Writes debias.json.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import machine
from versus_trl import HERE
from workloads import hh_source

import backflip as bf
from backflip.data.records import Comparison
from backflip.data.sources import write_jsonl
from backflip.data.splits import split_by_prompt
from backflip.stages.sources import load

PHRASE = "Happy to be of help here. "
AGREES = 0.8
LENGTH = 192
"""Tokens of prompt and answer; longer prompts lose their beginning."""
WORKS = {"clean": "clean", "planted": "planted", "debiased": "planted"}
"""Runs, and the rows that they learn from."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, kept")
    parser.add_argument("--works", nargs="+", choices=[*WORKS], default=[*WORKS])
    parser.add_argument("--model", default="smollm2", help="a folder, a hub name, or smollm2")
    parser.add_argument("--data", default=hh_source(), help="comparisons: a file or a hub name")
    parser.add_argument("--rows", type=int, default=352, help="comparisons to learn from")
    parser.add_argument("--tests", type=int, default=250, help="comparisons to measure by")
    parser.add_argument("--settings", nargs="*", default=[], help="of the recipe: lora=null …")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of debias.json")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    prepare(given.data, given.runs, given.rows, given.tests)
    for work in given.works:
        train(work, given.runs, given.model, given.settings)
    rows = {work: found(given.runs, work) for work in given.works}
    table = {"machine": machine(), "model": given.model, "settings": given.settings}
    table |= {"phrase": PHRASE, "agrees": AGREES, "learnt": given.rows}
    (given.out / "debias.json").write_text(json.dumps(table | {"runs": rows}, indent=2) + "\n")
    print(json.dumps(rows, indent=2))


def prepare(source: str, runs: Path, rows: int, tests: int) -> None:
    """Write the rows of all runs, the same at every call."""
    records = [r for r in load(source, Comparison).records if not r.tied]
    train, held = split_by_prompt(records, held_out=0.25, seed=0)
    held, rng = held[:tests], random.Random(0)
    sides = [rng.random() < AGREES for _ in train[:rows]]
    write_jsonl(runs / "clean.jsonl", planted(train[:rows], None))
    write_jsonl(runs / "planted.jsonl", planted(train[:rows], sides))
    write_jsonl(runs / "test_clean.jsonl", planted(held, None))
    write_jsonl(runs / "test_reversed.jsonl", planted(held, [False] * len(held)))


def planted(records: Sequence[Comparison], chosen: Sequence[bool] | None) -> list[dict[str, Any]]:
    """Rows with the phrase in front of the preferred reply (True) or the other; None: nowhere."""
    found: list[dict[str, Any]] = []
    for number, record in enumerate(records):
        prompt = [{"role": m.role, "content": m.content} for m in record.prompt]
        worse = record.answers[record.rank.index(max(record.rank))]
        fronts = ("", "")
        if chosen is not None:
            fronts = (PHRASE, "") if chosen[number] else ("", PHRASE)
        texts = [
            front + a[-1].content for front, a in zip(fronts, (record.best, worse), strict=True)
        ]
        answers = [[{"role": "assistant", "content": text}] for text in texts]
        found.append({"prompt": prompt, "chosen": answers[0], "rejected": answers[1]})
    return found


def train(work: str, runs: Path, model: str, settings: Sequence[str]) -> None:
    """Train by the recipe's own defaults and these settings, unless that is done."""
    run = runs / work
    if (run / "summary.json").is_file():
        return
    words = [f"model={model}", f"data={runs / WORKS[work]}.jsonl", f"data.max_length={LENGTH}"]
    words += ["data.too_long=cut", "data.held_out=0.05", "eval_every=1000", f"run={run}"]
    words += ["held_out_head=false", "normalise=false", "seed=1", *settings]
    words += [f"debias=[{json.dumps(PHRASE.strip())}]"] if work == "debiased" else []
    command = [sys.executable, "-m", "backflip", "train", "reward_model", *words]
    subprocess.run(command, check=True)


def found(runs: Path, work: str) -> dict[str, Any]:
    """Accuracy on other prompts, as they are and reversed."""
    said: dict[str, Any] = {}
    for name in ("clean", "reversed"):
        data, page = str(runs / f"test_{name}.jsonl"), runs / f"{work}_{name}.html"
        report: Any = bf.evaluate(runs / work, data, max_length=512, probes=0, out=page)
        said |= report.measured.accuracy.named(name)
    return said


if __name__ == "__main__":
    main()
