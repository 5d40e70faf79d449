"""RESULTS.md, results.json and the bar chart."""

from __future__ import annotations

import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import cuda_report
from bars import chart
from timing import CLOCK

Row = dict[str, Any]
NAMES = {
    "reward_model": "reward model, 8 pairs a step",
    "sft": "SFT, 8 conversations a step",
    "sampling": "sampling, 2 prompts × 8 answers × ≤ 64 tokens",
    "ppo": "PPO step (TRL: GRPO step), 2 prompts × 8 answers × 64 tokens",
    "dpo": "DPO, 8 pairs a step, reference included",
    "dpo_cached": "DPO, 8 pairs a step, reference cached",
    "kto": "KTO, 16 answers a step, reference included",
    "orpo": "ORPO, 8 pairs a step",
    "simpo": "SimPO, 8 pairs a step",
    "grpo": "GRPO step, 2 prompts × 8 answers × 64 tokens, β = 0.05",
    "rloo": "RLOO step, 2 prompts × 8 answers × 64 tokens, β = 0.05",
    "generation": "generation alone, 4 prompts × 16 answers × 64 tokens",
    "vine": "VinePPO's values, 9 continuations of every sentence of 16 answers "
    "(against: each prefilled alone)",
}

METHODS = {"dpo": "DPO", "ipo": "IPO", "kto": "KTO", "orpo": "ORPO", "simpo": "SimPO"}
"""Of ``hh_direct.py``."""


def row(name: str, sides: dict[str, dict[str, Any]], dtype: str) -> Row:
    """What results.json says of one work; the peer's side may be missing.

    Seconds are those of all timed batches over their number; for sampling, where the two sides
    write answers of different lengths, seconds for 1,000 answer tokens.
    """
    sampling, ours = name == NAMES["sampling"], sides["ours"]
    found: Row = {
        "work": name,
        "unit": "1,000 answer tokens" if sampling else "step",
        "clock": os.environ.get(CLOCK, "wall"),
    }
    versions: dict[str, str] = {}
    for side, seen in sides.items():
        spent, tokens = sum(seen["seconds"]), sum(seen["tokens"])
        found[f"{side}_s"] = spent / (tokens / 1000 if sampling else len(seen["seconds"]))
        found[f"{side}_gb"] = seen["gb"]
        found[f"{side}_tokens_per_s"] = tokens / spent
        found[f"{side}_batches_s"] = seen["seconds"]
        versions |= seen["versions"]
    if "peer" in sides:
        found["speedup"] = found["peer_s"] / found["ours_s"]
    found |= {"dtype": dtype, "machine": machine(), "versions": versions}
    if "operations" in ours:
        done = sum(ours["operations"]) / sum(ours["learning"])
        found["product_rate"] = ours["product_rate"]
        found["share_of_product_rate"] = done / ours["product_rate"]
    return found


def machine() -> str:
    """Device or processor, and cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [t for t in info.read_text().splitlines() if t.startswith("model name")]
        name = models[0].split(":")[1].strip() if models else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def line(found: Row) -> str:
    """One work on one line, for the terminal."""
    share = found.get("share_of_product_rate")
    against = (
        f" against {found['peer_s']:.2f} s and {found['peer_gb']:.2f} GB ({found['speedup']:.2f} ×)"
        if "speedup" in found
        else ", without the peer"
    )
    return f"{found['work']}: {found['ours_s']:.2f} s and {found['ours_gb']:.2f} GB{against}" + (
        f", {share:.0%} of the matrix-product rate" if share else ""
    )


def merged(folder: Path, rows: list[Row]) -> list[Row]:
    """New rows beside those of an earlier run, in the order of the table."""
    path = folder / "results.json"
    known = {r["work"]: r for r in json.loads(path.read_text())} if path.is_file() else {}
    known |= {r["work"]: r for r in rows}
    order = list(NAMES.values())
    return sorted(known.values(), key=lambda r: order.index(r["work"]) if r["work"] in order else 9)


def write(folder: Path, rows: list[Row]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    online = [r for r in rows if r.get("clock") == "cpu"]
    rows = [r for r in rows if r not in online]
    (folder / "results.svg").write_text(chart(rows))
    besides = [
        *rewards_part(online),
        *curves_part(_measured(folder / "curves.json").get("points", [])),
        *learnt_part(_measured(folder / "hh_direct.json")),
        *rounds_part(_measured(folder / "three_rounds.json")),
        *cuda_report.part(_measured(folder / "cuda.json")),
        *world_part(_measured(folder / "world.json")),
    ]
    (folder / "RESULTS.md").write_text(page(rows, besides))


def renewed(folder: Path) -> None:
    """The page once more, after another script has measured something beside it."""
    write(folder, merged(folder, []))


def _measured(path: Path) -> Any:
    """What another script has measured; empty where it has not."""
    return json.loads(path.read_text()) if path.is_file() else {}


# ---- the page


HEAD = (
    "work", "seconds a step, ours", "TRL", "times as fast", "peak GB, ours", "TRL",
    "tokens/s, ours", "TRL", "share of the matrix-product rate",
)  # fmt: skip


def page(rows: list[Row], besides: list[str]) -> str:
    table = ["| " + " | ".join(HEAD) + " |", "|---" + "|---:" * (len(HEAD) - 1) + "|"]
    for r in rows:
        share = r.get("share_of_product_rate")
        cells = [
            r["work"] + ("" if r["unit"] == "step" else f" (seconds for {r['unit']})"),
            f"{r['ours_s']:.2f}",
            f"{r['peer_s']:.2f}",
            f"**{r['speedup']:.2f}**",
            f"{r['ours_gb']:.2f}",
            f"{r['peer_gb']:.2f}",
            f"{r['ours_tokens_per_s']:,.0f}",
            f"{r['peer_tokens_per_s']:,.0f}",
            f"{share:.0%}" if share else "",
        ]
        table.append("| " + " | ".join(cells) + " |")
    head = ["# Backflip and TRL, side by side", "", "![Times and memory](results.svg)", ""]
    return "\n".join([*head, *table, "", *besides, method(rows), ""])


def rewards_part(rows: list[Row]) -> list[str]:
    """Works that were measured in seconds of the processor, on a machine that had others to do."""
    if not rows:
        return []
    table = [
        f"| {r['work']} | {r['ours_s']:.1f} | {r['peer_s']:.1f} | **{r['speedup']:.2f}** "
        f"| {_gb(r['ours_gb'])} | {_gb(r['peer_gb'])} | {len(r['ours_batches_s'])} |"
        for r in rows
    ]
    return [
        "## Learning from rewards",
        "",
        "| work | CPU seconds a step, ours | TRL | times as fast | peak GB, ours | TRL "
        "| steps timed |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *table,
        "",
        "One thread on each side, in seconds of the processor (`--clock cpu`), one after the",
        "other, after one step to warm up. Other programs held the machine's two cores meanwhile,",
        "and share its caches, so that a single ratio is good to some twenty per cent.",
        "",
    ]


def _gb(peak: float | None) -> str:
    return "–" if peak is None else f"{peak:.2f}"


def curves_part(points: list[Row]) -> list[str]:
    """How the cost of a DPO step grows, where that has been measured."""
    if not points:
        return []
    about = {"length": "{} tokens of prompt, 2 pairs", "answers": "{} answers to a prompt of 256"}
    rows = [
        f"| {about[p['curve']].format(p['at'])} | {p['ours_s']:.2f} | {p['peer_s']:.2f} "
        f"| **{p['peer_s'] / p['ours_s']:.1f}** | {p['ours_gb']:.1f} | {p['peer_gb']:.1f} |"
        for p in points
    ]
    return [
        "## Longer prompts, more answers",
        "",
        "![Seconds by length and by answers](curves.svg)",
        "",
        "| a DPO step, replies of 64 tokens, reference included | ours, s | TRL, s | times as fast "
        "| ours, GB | TRL, GB |",
        "|---|---:|---:|---:|---:|---:|",
        *rows,
        "",
        "Two prompts a step, random tokens, one warm-up, two timed steps (`benchmarks/curves.py`).",
        "More than two answers are a ranking for ours (DPO over Plackett-Luce); TRL has none and",
        "gets the same answers as pairs, each once, which is the least that it could read.",
        "",
    ]


def _span(r: Row, name: str, digits: int) -> str:
    """A share with its interval."""
    share, low, high = (f"{r[name + end]:.{digits}%}" for end in ("", "_low", "_high"))
    return f"{share} ({low} to {high})"


def learnt_part(table: dict[str, Any]) -> list[str]:
    """What the methods make of the same comparisons, where that has been run."""
    if not table:
        return []
    rows = table["rows"]

    return [
        "## Straight from preferences, on HH",
        "",
        "| method | rows learnt from | held-out pairs ordered right (95 % interval) | minutes |",
        "|---|---:|---:|---:|",
        *[
            f"| {METHODS[r['method']]} | {r['rows']:,} | {_span(r, 'accuracy', 1)} "
            f"| {r['minutes']:.0f} |"
            for r in rows
        ],
        f"| the shorter reply wins | – | {_span(rows[0], 'baseline_shorter', 1)} | – |",
        "",
        f"One epoch over `hh_harmless.jsonl.gz` (parts of Anthropic's HH-RLHF, harmless-base), "
        f"SmolLM2-135M-Instruct with LoRA, each method with its own defaults, {table['length']} "
        "tokens,",
        f"longer prompts cut at their beginning (`benchmarks/hh_direct.py`, {table['machine']}).",
        f"Accuracy is that of the implicit reward on {rows[0]['pairs']} held-out pairs, so "
        "intervals are some",
        "7 points wide on either side and the table ranks nobody. ORPO and SimPO have no",
        "reference: theirs is the likelihood itself, which does not begin at one half. KTO learns",
        "from one answer of each pair, good or bad by turns. Minutes are the run's own clock:",
        "steps and held-out pairs, without the reading of the reference before them (some three",
        "minutes, once for all).",
        "Other work ran beside every run for a part of it: read minutes as upper bounds.",
        "",
    ]


def rounds_part(table: dict[str, Any]) -> list[str]:
    """What three rounds made of the demo's policy, where that has been run."""
    if not table:
        return []

    def share(r: Row, name: str) -> str:
        return _span(r, name, 0) if r["round"] else "50%"

    return [
        "## In rounds",
        "",
        "| round | reward | win rate against the start (95 % interval) | by the held-out head "
        "| tokens | KL, nats |",
        "|---|---:|---:|---:|---:|---:|",
        *[
            f"| {r['round']} | {r['reward']:.2f} | {share(r, 'win_rate')} "
            f"| {share(r, 'win_rate_heldout')} | {r['length']:.0f} | {r['kl']:.1f} |"
            for r in table["rows"]
        ],
        "",
        "`backflip train iterative_dpo` with its own defaults on the demo's prompts, from the",
        "demo's SFT model and by its reward model: in each round 4 answers to each of 32 prompts,",
        "the best against the worst. Answers to 64 held-out prompts are compared with the start's,",
        f"by the judge that chose, and by its other head (`benchmarks/three_rounds.py`, "
        f"{table['machine']}).",
        "",
    ]


def world_part(table: dict[str, Any]) -> list[str]:
    """What a step costs in a world of one process, where that has been measured."""
    ratios = [
        f"* {name} parameters: **{r['ratio']:.3f}** ({r['ratio_low']:.3f} to {r['ratio_high']:.3f})"
        f" × {1000 * r['plain_s']:.1f} ms, {r['pairs']} pairs of steps"
        for name, r in table.get("sizes", {}).items()
    ]
    return ratios and [
        "## A world of one process",
        "",
        "Processor time of a step of SFT that several processes could share, over that of the same",
        "in a plain loop: by turns, ratio of medians, 95 % interval of a bootstrap over pairs",
        f"(`benchmarks/world.py`, {table['machine']}, which had other work to do beside it).",
        "",
        *ratios,
        "",
    ]


METHOD = """## How it was measured

On {machine}, in {dtype}, with {versions}. Written by `benchmarks/versus_trl.py`
(`make bench`); every number is also in `results.json`.

* Each side of each work runs in a process of its own, ours first, then TRL, never both at once.
  One step warms up; {timed} steps are timed. "Seconds a step" is their mean,
  "times as fast" the ratio of their sums.
* Rows are HH comparisons in the order of the file, in the model's chat template, tokenised once;
  both sides read the same token ids. Rows over 512 tokens, which TRL would drop or cut, are left
  out beforehand. Tokens a second count every token of every sequence, and no padding.
* TRL's trainers take their own training steps, with `bf16=False`, `gradient_checkpointing=False`,
  and nothing logged, evaluated or saved. All weights are trained, by AdamW with gradients clipped
  to 1. Ours uses the default token budget.
* Reward model: RewardTrainer, the same score head on both sides. SFT: SFTTrainer on
  prompt and completion with its default for such rows, loss on the completion (the last
  reply) alone; ours learns the same tokens. In both, the loss of the first batch must agree to 1e-3
  and that of the second, after a step, to 1e-2, or nothing is written.
* Sampling: `transformers.generate` with its key-value cache, in inference mode, padded on the
  left, no filter, the same stop token. Answers differ, so answer tokens a second are compared.
* PPO: sampling with the stop token held back to the end, so that every answer has 64 tokens; reward
  model, reference, critic and policy of the same size; one epoch. TRL has no PPO any more; its
  GRPO step, on the same prompts, has one model, no reference (`beta=0`) and a reward function
  that costs nothing.
* GRPO and RLOO: policy and reference, all weights, a reward that costs nothing, every answer of 64
  tokens; TRL's `GRPOTrainer` and `RLOOTrainer` with `beta=0.05`. Generation alone:
  `transformers.generate` in inference mode with its cache, left padding, no filter. TRL has no
  VinePPO: its row compares with the same engine, nothing shared.
* DPO and KTO: the log-probabilities of the reference (the model before the first step) are part
  of the work, unless cached: ours has it read all batches first and counts that time into their
  steps, TRL has it read each batch in its step. KTO: the mismatched answer is that of the row
  before on both sides. ORPO and SimPO: TRL's experimental ORPOTrainer, and CPOTrainer with SimPO's
  loss and `cpo_alpha=0`. TRL gets the token ids as they are, in the place of its own
  tokenising. Losses of the first and the second batch must agree (of ORPO the preference term:
  TRL's likelihood counts the prompt too).
* Memory is the most the process ever held resident (`ru_maxrss`; reserved on the device on CUDA).
* Matrix-product rate: the fastest of a square product of 2,048 and two shapes of the model,
  in the same process before and after the steps{measured}. The share is the operations a second
  of the whole step, optimiser included, over that rate. Operations are counted on the forest that
  was computed: 6 for each weight of the body's matrices and token, causal attention, 6 for each
  weight of the vocabulary head where a loss is read.

Seconds of each timed step:

{batches}
"""


def method(rows: list[Row]) -> str:
    r = rows[0]
    rate = [x["product_rate"] for x in rows if "product_rate" in x]
    return METHOD.format(
        machine=r["machine"],
        dtype=r["dtype"],
        versions=", ".join(f"{name} {v}" for name, v in r["versions"].items()),
        timed=len(r["ours_batches_s"]),
        measured=f" ({statistics.median(rate) / 1e9:,.0f} GFLOP/s here)" if rate else "",
        batches="\n".join(
            f"* {x['work']}: ours {_listed(x['ours_batches_s'])}; "
            f"TRL {_listed(x['peer_batches_s'])}"
            for x in rows
        ),
    )


def _listed(seconds: list[float]) -> str:
    return ", ".join(f"{s:.2f}" for s in seconds)
