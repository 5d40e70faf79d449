"""Three rounds of iterative DPO on the demo's prompts, judged by the demo's reward model.

    python benchmarks/three_rounds.py --runs runs/demo      what `make demo` left; ten minutes

Runs ``backflip train iterative_dpo`` with its own defaults, or goes on with it. Writes
three_rounds.json, from which RESULTS.md is made.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hh_direct import carry_on
from report import machine, renewed
from versus_trl import HERE

KEPT = ("round", "reward", "win_rate", "win_rate_heldout", "length", "kl")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the demo's runs")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of three_rounds.json")
    given = parser.parse_args()
    run = given.runs / "three_rounds"
    train(given.runs, run)
    summaries = sorted(run.glob("round_*/summary.json"))
    rows = [json.loads(path.read_text()) for path in summaries]
    kept = [{k: v for k, v in row.items() if k.startswith(KEPT)} for row in rows]
    table = {"machine": machine(), "rows": kept}
    (given.out / "three_rounds.json").write_text(json.dumps(table, indent=2) + "\n")
    renewed(given.out)


def train(demo: Path, run: Path) -> None:
    """Train, or go on."""
    new = ["train", "iterative_dpo", f"model={demo / 'sft'}", f"judge={demo / 'reward_model'}"]
    carry_on(run, [*new, "data=demo:prompts", f"run={run}"])


if __name__ == "__main__":
    main()
