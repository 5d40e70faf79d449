"""process.json and process.md: what was measured, and what its intervals hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from report import machine

from backflip.functional.statistics import Interval, mean_interval

Row = dict[str, Any]
JUDGES = {
    "known": "process, the program's labels",
    "turned": "process, a share of these turned over",
    "hard": "process, Monte Carlo: any continuation right",
    "soft": "process, Monte Carlo: share of continuations",
    "outcome": "outcome",
}
POLICIES = {
    "start": "the start",
    "grpo": "GRPO, outcome",
    "grpo_process": "GRPO, process model (`score`)",
    "grpo_process_kl": "GRPO, process model, a nat costs 0.04",
    "ppo": "PPO, outcome",
    "ppo_process": "PPO, process model (`gain`)",
    "ppo_process_kl": "PPO, process model, a nat costs 0.05",
    "vineppo": "VinePPO, outcome",
}
PREFERENCES = {
    "start": "the start",
    "step_dpo_0.0001": "Step-DPO, rate 1e-4",
    "step_dpo_2e-05": "Step-DPO, rate 2e-5",
    "dpo_0.0001": "DPO on whole answers, rate 1e-4",
    "dpo_2e-05": "DPO on whole answers, rate 2e-5",
}


def report(rows: Sequence[Row], plan: Mapping[str, Any], out: Path) -> None:
    """Write both files."""
    found = {"machine": machine(), "plan": dict(plan), "rows": list(rows)}
    (out / "process.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [*_head(rows, plan), *_verifiers(rows, plan), *_policies(rows, plan)]
    lines += _preferences(rows, plan)
    (out / "process.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---- numbers


def over_seeds(rows: Sequence[Row], name: str, of: Callable[[Row], Any]) -> dict[int, float]:
    """A number of each seed's row of that name."""
    found = {row["seed"]: of(row) for row in rows if row["name"] == name}
    return {seed: value for seed, value in found.items() if value is not None}  # F1 of none


def cell(values: Mapping[int, float]) -> str:
    """The mean of some seeds in percent, with its interval."""
    if not values:
        return "–"
    i = mean_interval(list(values.values()), within=(0.0, 1.0))
    ends = f" ({100 * i.low:.0f}–{100 * i.high:.0f})" if i.units > 1 else ""
    return f"{100 * i.estimate:.1f}{ends}"


AGAINST = ["| this | against | difference, points | |", "|---|---|---|---|"]


def contrast(name: str, a: Mapping[int, float], other: str, b: Mapping[int, float]) -> str:
    """A row of ``AGAINST``: the difference of two numbers of the same seeds, and what it holds."""
    seeds = sorted({*a} & {*b})
    if len(seeds) < 2:
        return f"| {name} | {other} | – | too few seeds |"
    i: Interval = mean_interval([a[s] - b[s] for s in seeds], within=(-1.0, 1.0))
    points = f"{100 * i.estimate:+.1f} ({100 * i.low:+.1f} to {100 * i.high:+.1f})"
    verdict = "**better**" if i.low > 0 else "**worse**" if i.high < 0 else "not told apart"
    return f"| {name} | {other} | {points} | {verdict} |"


# ---- text


def _head(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[str]:
    minutes = sum(row["cpu"] for row in rows) / 60
    return [
        "# Supervision of steps against supervision of outcomes",
        "",
        f"`python benchmarks/process.py`: `task:{plan['task']}`, answered line by line, 0.35 M "
        f"parameters, one start ({plan['warm']} steps of examples), and seeds of all that comes "
        f"after it; {minutes:.0f} minutes of processor time behind these rows, on one thread of "
        f"{machine()}. Shares are percent, with Student's 95 % interval of the mean over seeds, "
        "wider on a side to which they are skewed; that says nothing of other starts, sizes or "
        "tasks. A difference is over the same seeds; each interval is of one comparison, not of "
        "all of them together.",
        "",
    ]


def _verifiers(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[str]:
    of, n = [row for row in rows if row["part"] == "verifiers"], plan["n"]
    if not of:
        return []
    seeds = {row["seed"] for row in of}
    labels = [row for row in rows if row["part"] == "labels" and row["seed"] in seeds]
    methods = ("best of n, min", "best of n, product", "best of n, last", "weighted vote")
    ways = [("best of n, product", 4), *((method, n) for method in methods)]
    lines = [
        "## Verifiers",
        "",
        f"{plan['labelled']} questions × {plan['solutions']} solutions of the start a seed, the "
        "same for every kind of label; models of the start's size, from its weights, "
        f"{plan['epochs']} epochs. Noise: share of labels that the program contradicts, where a "
        "step is good if it and all before it are right; for the outcome model, right answers "
        "with a wrong step. Steps and F1 (ProcessBench's) by the program's labels of new "
        f"solutions. Choosing among n answers to {plan['chosen']} held-out questions.",
        "",
        "| learnt from | seeds | noise | steps right | F1 | "
        + " | ".join(f"{m.removeprefix('best of n, ')}, n = {k}" for m, k in ways)
        + f" | beam, {n} |",
        "|---|---|---|---|---|" + "---|" * (len(ways) + 1),
    ]
    for name, said in JUDGES.items():
        part = [row for row in of if "steps" in row]
        cells = [
            f"{len(chosen(of, name, *ways[0]))}",
            cell(over_seeds(labels, name, lambda row: row["noise"])),
            *(cell(over_seeds(part, name, lambda row, k=k: row[k])) for k in ("steps", "f1")),
            *(cell(chosen(of, name, method, many)) for method, many in ways),
            cell(chosen(of, name, "beam by step", n)),
        ]
        lines.append(f"| {said} | {' | '.join(cells)} |")
    return [*lines, "", *_chosen(of, n)]


def chosen(of: Sequence[Row], name: str, method: str, many: int) -> dict[int, float]:
    """Share of right answers where a verifier chooses among so many, or nobody does."""
    return over_seeds(of, name, lambda row: row["accuracy"].get(f"{method} @{many}"))


def _chosen(of: Sequence[Row], n: int) -> list[str]:
    """Choosing without a model, and sentences on choosing with one by its product."""
    plain = [("one answer", "majority", 1), *((f"majority of {k}", "majority", k) for k in (4, n))]
    plain += [(f"any of {k} right", "any right (pass@k)", k) for k in (4, n)]
    told = "; ".join(f"{said} {cell(chosen(of, 'outcome', *how))}" for said, *how in plain)
    good = cell(over_seeds([r for r in of if "good" in r], "known", lambda row: row["good"]))
    lines = list[str]()
    for k in (4, n):
        best, voted = ("best of n, product", k), ("weighted vote", k)
        outcome, one = chosen(of, "outcome", *best), chosen(of, "outcome", "majority", 1)
        majority = chosen(of, "outcome", "majority", k)
        for name, said in JUDGES.items():
            mine, votes = chosen(of, name, *best), chosen(of, name, *voted)
            if not mine:
                continue
            if name != "outcome":
                lines.append(contrast(f"best of {k}, {said}", mine, "outcome", outcome))
            if name in ("known", "outcome"):
                lines.append(contrast(f"best of {k}, {said}", mine, "one answer", one))
                lines.append(contrast(f"best of {k}, {said}", mine, f"majority of {k}", majority))
                lines.append(contrast(f"vote of {k}, {said}", votes, f"majority of {k}", majority))
    told = f"Without a model: {told}. Good steps: {good}. Best of n is by the product."
    return [told, "", *AGAINST, *lines, ""]


def _policies(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[str]:
    of = [row for row in rows if row["part"] in ("policies", "start")]
    head = [
        "## Policies",
        "",
        f"{plan['seconds']:.0f} s of processor time in the training of each, from the start; the "
        "time in which the process model learnt is not in it. The process model is that of the "
        "program's labels, and the only reward. KL is free but where it says otherwise. "
        f"Sampled accuracy on {plan['tested']} held-out "
        "questions × 4 answers at temperature 1.",
        "",
    ]
    pairs = (
        ("grpo_process", "grpo"),
        ("grpo_process_kl", "grpo"),
        ("ppo_process", "ppo"),
        ("vineppo", "ppo"),
        ("vineppo", "grpo"),
        ("grpo", "ppo"),
        *((name, "start") for name in POLICIES if name != "start"),
    )
    return _table(of, head, POLICIES, "steps", pairs)


def _preferences(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[str]:
    of = [row for row in rows if row["part"] in ("preferences", "start")]
    head = [
        "## Preferences",
        "",
        "From the same sampled solutions as the verifiers: pairs of a good and a bad step behind "
        "the same steps, by the program's labels, or of a right and a wrong answer, by the "
        f"outcome. {plan['pairs']} optimiser steps of 32 rows, which are such a pair of steps, or "
        "a question with all its right and wrong answers; each recipe's own β.",
        "",
    ]
    rates = ("0.0001", "2e-05")
    pairs = [(f"step_dpo_{rate}", f"dpo_{rate}") for rate in rates]
    pairs += [(name, "start") for name in PREFERENCES if name != "start"]
    return _table(of, head, PREFERENCES, "rows", pairs)


def _table(
    of: Sequence[Row],
    head: list[str],
    names: Mapping[str, str],
    count: str,
    pairs: Sequence[tuple[str, str]],
) -> list[str]:
    """Accuracy of policies, and the sentences on pairs of them."""
    if {row["name"] for row in of} <= {"start"}:
        return []

    def sampled(name: str) -> dict[int, float]:
        return over_seeds(of, name, lambda row: row["sampled"])

    (start,) = sampled("start").values()
    seeds = {row["seed"] for row in of}

    lines = [*head, f"| policy | seeds | sampled | any of 4 right | {count} |"]
    lines.append("|---|---|---|---|---|")
    for name, said in names.items():
        if not (found := sampled(name)):
            continue
        any_ = over_seeds(of, name, lambda row: row["any_of_4"])
        many = [row[count] for row in of if row["name"] == name and count in row]
        mean = f"{sum(many) / len(many):.0f}" if many else "–"
        lines.append(f"| {said} | {len(found)} | {cell(found)} | {cell(any_)} | {mean} |")
    pairs = [(a, b) for a, b in pairs if sampled(a) and sampled(b)]
    told = [
        contrast(
            names[a],
            sampled(a),
            names[b],
            dict.fromkeys(seeds, start) if b == "start" else sampled(b),
        )
        for a, b in pairs
    ]
    return [*lines, "", *AGAINST, *told, ""]
