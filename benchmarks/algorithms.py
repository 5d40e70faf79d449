"""Online algorithms on one task, from one start, under one budget of time.

    python benchmarks/algorithms.py --runs runs/algorithms             goes on with what is missing
    python benchmarks/algorithms.py --runs … --works grpo rloo --seeds 0 1 2 3 4

Every run is what a user runs: ``backflip train NAME`` with the recipe's own algorithm, values and
curriculum, and what the task asks for in common (prompts, answers, rate, no price of KL). The start
is the warm start of ``backflip train sorting``. Seven algorithms get five seeds, the rest one.
Judged by sampled accuracy on the same 512 held-out questions, four answers each, after
``--seconds`` of the processor's time on one thread.

Writes algorithms.json and algorithms.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from report import machine
from versus_trl import HERE

from backflip.algorithms.discover import ONLINE, title_of
from backflip.functional.statistics import mean_interval

FIVE = ("grpo", "dr_grpo", "dapo", "rloo", "reinforce_pp", "gspo", "ppo")
"""The best known ones."""
LEFT_OUT = {
    "gdpo": "needs several rewards, the task has one",
    "on_policy_distillation": "needs a teacher",
}
TITLES = {"dr_grpo": "Dr. GRPO"}
"""Of names that are settings of another algorithm."""
COMMON = (
    "data=task:sorting",
    "data.max_length=64",
    "answers_per_prompt=16",
    "reward=exact",
    "algorithm.kl_coef=0",
    "lora=null",
    "prompts_per_step=32",
    "optimizer.lr=1.0e-4",
    "optimizer.schedule=constant",
    "optimizer.warmup=0.0001",
    "optimizer.eps=1.0e-8",
    "sampling.max_tokens=12",
    "sampling.temperature=1.0",
    "shaping.missing_eos=0",
    "kl_stop=null",
    "max_rows=512",
    "steps=100000",
    "eval_every=100000",
    "checkpoint_every=100000",
    "best=false",
    "validation_prompts=512",
    "validation_answers=4",
    "threads=1",
)
OWN = {
    "vineppo": ("answers_per_prompt=4",),
    "remax": ("answers_per_prompt=4",),
    "dapo": ("shaping.overlong_buffer=1",),
    "top_entropy": ("shaping.overlong_buffer=1",),
}
"""Settings that are measured in answers or tokens: continuations and greedy answers are drawn
besides, and the punished end of an answer is as short as answers are here."""
PREDICTED = {
    "reinforce": "noisier than a baseline of siblings (RLOO's paper)",
    "rloo": "as good as PPO at less cost (Ahmadian et al., 2024)",
    "reinforce_pp": "steadier than GRPO on few prompts (Hu, 2025)",
    "remax": "as PPO at half of its memory (Li et al., 2023)",
    "grpo": "better than online rejection sampling (Shao et al., 2024)",
    "dr_grpo": "as GRPO in accuracy, with shorter wrong answers (Liu et al., 2025)",
    "dapo": "faster than GRPO: each of its four parts gains (Yu et al., 2025)",
    "gspo": "steadier than GRPO for mixtures of experts and long answers (Zheng et al., 2025)",
    "cispo": "twice DAPO's speed in steps (MiniMax, 2025)",
    "ppo": "needs a critic that must learn first",
    "vineppo": "more accurate credit than PPO's critic (Kazemnejad et al., 2024)",
    "vapo": "ahead of DAPO by a pretrained critic (Yue et al., 2025)",
    "clip_cov": "keeps its entropy, and ends above GRPO (Cui et al., 2025)",
    "kl_cov": "keeps its entropy, and ends above GRPO (Cui et al., 2025)",
    "dppo": "steadier and more efficient than GRPO (Qi et al., 2026)",
    "gmpo": "above GRPO by up to 4.1 points, with steadier ratios (Zhao et al., 2025)",
    "gpg": "above GRPO, at less cost (Chu et al., 2025)",
    "grpo_process": "above GRPO, by rewards of steps (Shao et al., 2024); here there are none",
    "maxrl": "as good as GRPO or better in one try, better in many (Tajwar et al., 2026)",
    "one_step_ppo": "no claim about accuracy: the form in which papers write RLHF down",
    "opo": "steadier, with more entropy, and better on mathematics (Hao et al., 2025)",
    "raft_pp": "close to GRPO: faster at first, then overtaken (Xiong et al., 2025)",
    "reinforce_pp_baseline": "steadier and better than GRPO on complex reasoning (Hu et al., 2025)",
    "sapo": "steadier than GRPO and GSPO, and better at equal budgets (Gao et al., 2025)",
    "top_entropy": "as DAPO at 8 B, better at 14 and 32 B parameters (Wang et al., 2025)",
    "vespo": "steady at a staleness of up to 64 updates (Shen et al., 2026)",
}
"""What the papers say."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, kept")
    parser.add_argument("--works", nargs="+", default=sorted({*ONLINE, *FIVE} - {*LEFT_OUT}))
    parser.add_argument("--seeds", nargs="+", type=int, help="for each of them; else 5 or 1")
    parser.add_argument("--seconds", type=float, default=200.0, help="of training in each run")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of algorithms.json")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    start = warm_start(given.runs)
    for seed in range(5):
        for name in given.works:
            seeds = given.seeds or (range(5) if name in FIVE else (0,))
            if seed in seeds:
                train(name, seed, start, given.runs, given.seconds)
    write(given.runs, given.seconds, given.out)


def warm_start(runs: Path) -> Path:
    """The model that all runs begin with."""
    run = runs / "start"
    if not (run / "sft" / "summary.json").is_file():
        backflip("train", "sorting", f"run={run}", "online.steps=1", "online.validation_prompts=8")
    return run / "sft"


def train(name: str, seed: int, start: Path, runs: Path, seconds: float) -> None:
    """One run, unless it is there; one that broke off begins again."""
    run = runs / f"{name}-{seed}"
    if (run / "summary.json").is_file():
        return
    shutil.rmtree(run, ignore_errors=True)
    more = [f"curriculum.cpu_minutes={seconds / 60:.4f}", f"seed={seed}", f"run={run}"]
    backflip("train", name, f"model={start}", *COMMON, *OWN.get(name, ()), *more)


def backflip(*arguments: str) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "backflip", *arguments], check=True, env=env)


def found(run: Path) -> dict[str, Any]:
    """The row of a finished run."""
    summary = json.loads((run / "summary.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["metrics"] for line in lines if "reward" in line["metrics"]]
    last = steps[-20:]
    signal = [m["signal"] for m in last if "signal" in m]
    name, _, seed = run.name.rpartition("-")
    return {
        "algorithm": name,
        "seed": int(seed),
        "steps": len(steps),
        "before": summary["accuracy_before"]["pass_at_1"]["mean"],
        "sampled": summary["accuracy_after"]["pass_at_1"],
        "greedy": summary["accuracy_after"]["greedy"],
        "signal": sum(signal) / len(signal) if signal else None,
        "kl": summary["kl_after"],
    }


def write(runs: Path, seconds: float, out: Path) -> None:
    """algorithms.json, and algorithms.md with a row for each algorithm."""
    rows = [found(path.parent) for path in sorted(runs.glob("*-[0-9]/summary.json"))]
    table = {"machine": machine(), "seconds": seconds, "rows": rows}
    (out / "algorithms.json").write_text(json.dumps(table, indent=2) + "\n")
    names = {
        row["algorithm"]: [r for r in rows if r["algorithm"] == row["algorithm"]] for row in rows
    }
    made = [line(name, runs_of) for name, runs_of in names.items()]
    made.sort(key=lambda pair: -pair[0])
    before = rows[0]["before"] if rows else 0.0
    text = [
        "# Online algorithms on one task\n",
        f"`python benchmarks/algorithms.py`: sorting 6 to 10 digits, 0.3 M parameters, from one "
        f"warm start ({before:.1%} of sampled answers right), {seconds:.0f} s of processor "
        f"time in training each, on one thread of {table['machine']}. Sampled accuracy at "
        "temperature 1 on 512 held-out questions × 4 answers: over five seeds with Student's "
        "interval of their mean, wider on a side to which they are skewed, of one seed with the "
        "interval over questions, which says nothing of other seeds. Signal: share of prompts "
        "whose answers differed in score, over the last "
        f"20 steps. {shared(names)}\n",
        "| algorithm | seeds | sampled | 95 % | greedy | steps | signal | KL, nats | predicted |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row for _, row in made),
        "",
        *(f"Left out: `{name}` ({why})." for name, why in LEFT_OUT.items()),
    ]
    (out / "algorithms.md").write_text("\n".join(text) + "\n")


def shared(names: dict[str, list[dict[str, Any]]]) -> str:
    """A sentence where seeds of one algorithm took more steps than others in the same time."""
    counts = [[row["steps"] for row in rows] for rows in names.values() if len(rows) > 1]
    most = max((max(steps) / min(steps) for steps in counts), default=1.0)
    if most < 1.1:
        return ""
    return (
        f"Steps are the least and the most of the seeds: other work on the machine made them up to "
        f"{most:.2f} × as many in one seed as in another, and accuracy goes with them, so that "
        "differences between algorithms are smaller than the table has them or larger."
    )


def span(counts: list[int]) -> str:
    """The least and the greatest of some numbers."""
    return f"{min(counts)}–{max(counts)}" if min(counts) < max(counts) else str(counts[0])


def line(name: str, rows: list[dict[str, Any]]) -> tuple[float, str]:
    """(mean sampled accuracy, a row of the table)."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    sampled = [row["sampled"]["mean"] for row in rows]
    one = rows[0]["sampled"]
    low, high = one["low"], one["high"]
    if len(rows) > 1:
        interval = mean_interval(sampled, within=(0.0, 1.0))
        low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    signal = [row["signal"] for row in rows if row["signal"] is not None]
    cells = [
        TITLES.get(name) or title_of(name),
        str(len(rows)),
        f"{mean(sampled):.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{mean([row['greedy']['mean'] for row in rows]):.1%}",
        span([row["steps"] for row in rows]),
        f"{mean(signal):.2f}" if signal else "–",
        f"{mean([row['kl'] for row in rows]):.1f}",
        PREDICTED.get(name, ""),
    ]
    return mean(sampled), f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
