"""The part of RESULTS.md on a CUDA device."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
NAMES = {
    "dpo": "DPO, {pairs} pairs a step, reference included",
    "grpo": "GRPO step, {prompts} prompts × {group} answers × {tokens} tokens, β = 0.05",
    "sft": "SFT, {conversations} conversations a step",
}
"""Of works whose batches fill a device."""
WAITING = [
    "## With batches that fill a device",
    "",
    "Not measured yet: these rows wait for a device. `make bench-cuda` makes them on one H200 in",
    "13 minutes: DPO with 64 pairs, GRPO with 256 answers and SFT with 64 conversations a step,",
    "at 0.5B and 3B with all weights and at 8B by LoRA, with the share of the device's bfloat16",
    "rate that training reaches. What does not fit into that time is left out and named.",
    "`python benchmarks/on_cuda.py --dry-run --out FOLDER --peer-python PYTHON` goes the same way",
    "on a CPU with tiny models, and its numbers mean nothing.",
    "",
]


def part(rows: list[Row]) -> list[str]:
    """Rows with batches that fill the device, and the older ones with those of a CPU."""
    full = [row for row in rows if "key" in row]
    few = [row for row in rows if "key" not in row]
    return [*(full_part(full) if full else WAITING), *(few_part(few) if few else [])]


def full_part(rows: list[Row]) -> list[str]:
    """The table, and how it was made."""
    first = rows[0]
    peak = f" (data sheet: {first['peak'] / 1e12:,.0f})" if first.get("peak") else ""
    return [
        f"## With batches that fill one {first['machine']}",
        "",
        *(
            ["Of a dry run: tiny models, whose numbers mean nothing.", ""]
            if any(row.get("dry_run") for row in rows)
            else []
        ),
        *table(rows),
        "",
        "Random weights in the shapes of Qwen 2.5 and Llama 3.1, with the optimiser all in",
        f"{first['dtype']} (recipes keep masters in float32), by `benchmarks/on_cuda.py`, with",
        ", ".join(f"{name} {v}" for name, v in first["versions"].items()) + ".",
        "8B is taught by LoRA on both sides: rank 16 on every linear layer but the head, adapters",
        "in float32, multiplied in bfloat16.",
        "",
        "Share of the rate: operations of the learner's steps over their seconds, optimiser",
        f"included, over the {first['product_rate'] / 1e12:,.2f} TFLOP/s{peak} of a large product",
        "in bfloat16, measured here beforehand. Sampling and the reading of the reference count",
        "neither in operations nor in seconds. Operations are 6 for each weight and token, 4 for",
        "frozen ones below adapters, attention and head on top, on what was really computed: a",
        "prompt that answers share counts once. Tokens a second are those of the whole step, of",
        "every sequence (GRPO: of answers), without padding.",
        "",
        "Neither side checkpoints activations. Both cut a step into micro-batches of at most as",
        "many sequences of 512 tokens as the table says (ours: of at most its default token budget",
        "besides), and of half as many when memory runs out. TRL runs with its defaults otherwise:",
        "scaled dot-product attention, fused AdamW, generation by transformers; without vLLM,",
        "Liger kernels and padding-free rows, which are off by default.",
        "",
    ]


HEAD = (
    "model", "work", "seconds a step, ours", "TRL", "times as fast", "tokens/s, ours", "TRL",
    "share of the rate in training", "peak GB, ours", "TRL", "sequences at once, ours", "TRL",
    "steps timed, after warm-ups",
)  # fmt: skip


def table(rows: list[Row]) -> list[str]:
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---" + "|---:" * (len(HEAD) - 2) + "|"]
    for r in rows:
        cells = [
            r["size"] + (" LoRA" if r["lora"] else ""),
            r["work"],
            f"{r['ours_s']:.3f}",
            _known(r, "peer_s", ".3f"),
            "**" + _known(r, "speedup", ".2f") + "**",
            f"{r['ours_tokens_per_s']:,.0f}",
            _known(r, "peer_tokens_per_s", ",.0f"),
            f"{r['share_of_product_rate']:.0%}",
            f"{r['ours_gb']:.1f}",
            _known(r, "peer_gb", ".1f"),
            str(r["ours_at_once"]),
            _known(r, "peer_at_once", "d"),
            f"{len(r['ours_batches_s'])} after {r['warmups']}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _known(row: Row, name: str, digits: str) -> str:
    return format(row[name], digits) if name in row else "–"


def few_part(rows: list[Row]) -> list[str]:
    """The works of the CPU's table with its batches."""
    table = [
        f"| {r['size']} | {r['work']}{'' if r['unit'] == 'step' else ' (for 1,000 answer tokens)'} "
        f"| {r['ours_s']:.3f} | {r['peer_s']:.3f} | **{r['speedup']:.2f}** "
        f"| {r['ours_gb']:.1f} | {r['peer_gb']:.1f} "
        f"| {len(r['ours_batches_s'])} after {r['warmups']} |"
        for r in rows
    ]
    versions = ", ".join(f"{name} {v}" for name, v in rows[0]["versions"].items())
    return [
        f"## On one {rows[0]['machine']}",
        "",
        "| model | work | seconds a step, ours | TRL | times as fast | peak GB, ours | TRL "
        "| steps timed, after warm-ups |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *table,
        "",
        "The same works with random weights in the shapes of Qwen 2.5, on both sides in bfloat16,",
        "weights and optimiser too (recipes keep masters in float32), by an earlier version of",
        f"`benchmarks/on_cuda.py`, with {versions}.",
        "Losses of the first batch agree to 0.05. Memory is what was reserved on the device.",
        "Batches are small for it: at 0.5B both sides wait for Python more than for the device.",
        "",
    ]
