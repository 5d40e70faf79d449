"""A small language model learns to follow instructions that a program checks, in about an hour.

    python benchmarks/follows.py --data ifeval.jsonl --run runs/follows

The prompts are IFEval's own (Zhou et al., 2023: prompt, instruction_id_list, kwargs), the model is
SmolLM2-135M with LoRA, the reward is the share of a prompt's instructions that its answer follows.
GRPO for ``--minutes`` of training by the clock; one in five prompts is held out. IFEval is a test
set: a model trained on four fifths of it is no longer measured by it, and its figures here compare
with nobody's. Written to follows.md as the run left it; a second call writes the table again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from report import machine
from versus_trl import HERE

import backflip as bf
from backflip.functional.statistics import mean_interval

SETTINGS: dict[str, Any] = {
    "reward": "ifeval",
    "prompts_per_step": 4,
    "answers_per_prompt": 8,
    "algorithm": {"name": "grpo", "kl_coef": 0.0, "epochs": 1},
    "sampling": {"max_tokens": 80, "temperature": 1.0},
    "shaping": {"missing_eos": None},
    "lora": {"rank": 16, "alpha": 32},
    "optimizer": {"lr": 2e-4, "schedule": "constant", "warmup": 0.0},
    "validation_prompts": 52,
    "validation_answers": 4,
    "eval_every": 10_000,
    "checkpoint_every": 20,
    "best": False,
    "steps": 10_000,
}
PART = 0.2
"""Share of the steps at either end that the table averages over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="IFEval's prompts")
    parser.add_argument("--model", default="smollm2", help="a folder, a hub name, or smollm2")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of follows.md")
    given = parser.parse_args()
    if not (given.run / "summary.json").is_file():
        bf.train(
            "grpo",
            model=given.model,
            data={"source": given.data, "held_out": 0.2},
            run=str(given.run),
            threads=given.threads,
            **SETTINGS | {"curriculum": {"minutes": given.minutes}},
        )
    (given.out / "follows.md").write_text(table(given.run))


def table(run: Path) -> str:
    """The page, with nothing left out."""
    summary = json.loads((run / "summary.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [one for one in lines if "reward" in one["metrics"]]
    rewards, minutes = [one["metrics"]["reward"] for one in steps], steps[-1]["time"] / 60
    few = max(2, round(PART * len(rewards)))
    first, last = (mean_interval(part) for part in (rewards[:few], rewards[-few:]))
    answers = SETTINGS["prompts_per_step"] * SETTINGS["answers_per_prompt"]

    kinds = [("sampled, all instructions followed", "pass_at_1"), ("greedy, the same", "greedy")]
    rows = [
        f"| reward, first {few} steps | {ends(vars(first))} |",
        f"| reward, last {few} steps | {ends(vars(last))} |",
        f"| held-out reward before | {ends(summary['reward_before'])} |",
        f"| held-out reward after | {ends(summary['reward_after'])} |",
        f"| its change, prompt by prompt | {ends(summary['reward_gain'], -1.0)} |",
    ]
    for words, name in kinds:
        for end in ("before", "after"):
            found = summary[f"accuracy_{end}"][name]
            rows.append(f"| held out, {words}: {end} | {ends(found)} |")
    text = [
        "# SmolLM2-135M learns to follow instructions\n",
        f"`python benchmarks/follows.py`: {len(rewards)} steps of {answers} answers of up to "
        f"{SETTINGS['sampling']['max_tokens']} tokens, the last {minutes:.0f} minutes after the "
        f"run began, on {machine()}, one seed. The reward is the share of a prompt's instructions "
        "that its answer follows. Held-out figures are of prompts that were never trained on, four "
        "answers to each, with intervals over prompts; those of steps are over steps, whose "
        "prompts differ.\n",
        "| | mean | 95 % |",
        "|---|---|---|",
        *rows,
        "",
        f"KL from the reference after it: {summary['kl_after']:.1f} nats an answer.",
        f"The run ended by an alarm: {summary['stopped']}" if summary.get("stopped") else "",
    ]
    return "\n".join(text).rstrip() + "\n"


def ends(found: dict[str, Any], least: float = 0.0) -> str:
    """Two cells: a mean, and its interval within what can be."""
    mean = found.get("mean", found.get("estimate"))
    low, high = max(found["low"], least), min(found["high"], 1.0)
    return f"{mean:.3f} | {low:.3f} to {high:.3f}"


if __name__ == "__main__":
    main()
