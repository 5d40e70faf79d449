"""The over-optimisation laboratory, seed by seed: does gold turn, and does an alarm ring before?

    python benchmarks/overoptimization.py --runs runs/overoptimization        goes on where it broke
    python benchmarks/overoptimization.py --runs … --seeds 0 1 2 --whole 0 1

Every seed is ``backflip train overoptimization seed=S``. Seeds of ``--whole`` run all of the
recipe; the others only what the counts stand on: the weak proxy, and the gold itself. Nothing was
chosen on seeds 0 to 9: limits of alarms and the recipe's numbers were settled on others.

Writes overoptimization.json and overoptimization.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from report import machine
from versus_trl import HERE

import backflip as bf
from backflip.functional.statistics import mean_interval, wilson
from backflip.recipes.load import load_recipe

LIGHT: dict[str, Any] = {
    "sizes": [],
    "noise": [],
    "remedies": ["early_stop"],
    "best_of_prompts": 64,
}
NAMES = {
    "kl": "price of KL",
    "length": "length penalty",
    "ensemble": "ensemble, mean",
    "worst": "ensemble, worst case",
    "uncertainty": "ensemble, less its variance",
    "early_stop": "stop at the first alarm",
    "gold": "trained against the gold itself",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--whole", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    given = parser.parse_args()
    for seed in sorted(given.seeds, key=lambda s: s not in given.whole):
        run = given.runs / f"seed_{seed}"
        settings = {"seed": seed, "threads": given.threads, "run": str(run)}
        if seed not in given.whole:
            recipe: Any = load_recipe("overoptimization")
            settings |= LIGHT | {"labels": [recipe.labels[0]]}
        if not (run / "recipe.yaml").is_file():
            bf.train("overoptimization", **settings)
        elif not (run / "summary.json").is_file():
            bf.resume(str(run))
        write(given.runs, given.out)


def write(runs: Path, out: Path) -> None:
    """Results of all seeds that are finished."""
    rows = [_seed(path) for path in sorted(runs.glob("seed_*/summary.json"), key=_number)]
    (out / "overoptimization.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "overoptimization.md").write_text(page(rows))


def _number(path: Path) -> int:
    return int(path.parent.name.partition("_")[2])


def _seed(path: Path) -> dict[str, Any]:
    said = json.loads(path.read_text())
    weak, gold = said["courses"][said["weak"]], said["courses"]["gold"]
    kept = ("rose", "fell", "peak_d", "alarm_d", "alarm_step", "in_time", "curve")
    alarms, chosen = [a["name"] for a in weak["alarms"]], said["best_of_n"][said["weak"]]
    return {
        "seed": _number(path),
        "accuracy": said["proxies"][said["weak"]]["accuracy"],
        **{name: weak[name] for name in kept},
        "best_of_n": [point["estimate"] for point in chosen["gold"]],
        "best_of_n_sizes": chosen["n"],
        "best_of_n_curve": chosen["curve"],
        "alarms": alarms,
        "false_alarms": [a["name"] for a in gold["alarms"]],
        "remedies": {row["name"]: _gains(row) for row in said["remedies"]},
    }


def _gains(row: dict[str, Any]) -> dict[str, float] | None:
    """Gold over the start, at the end and at the best."""
    if not (row["start"] and row["end"] and row["best"]):
        return None
    start = row["start"]["estimate"]
    return {at: row[at]["estimate"] - start for at in ("end", "best")}


def page(rows: list[dict[str, Any]]) -> str:
    """The table, with nothing left out."""
    turned = [r for r in rows if r["rose"] and r["rose"]["low"] > 0 and r["fell"]["high"] < 0]
    timely = [r for r in turned if r["in_time"]]
    calm = [r for r in rows if not r["false_alarms"]]
    lines = [
        "# Over-optimisation of a weak proxy\n",
        f"`python benchmarks/overoptimization.py`: {len(rows)} seeds on {machine()}. Gold is what "
        "`backflip train overoptimization` has for it; the weak proxy is a reward model that "
        "learnt from the fewest labels, all of them right. A counted alarm saw neither the gold "
        "nor anything made of it but the labels that the proxy itself learnt from.\n",
        "* Best of n: the fitted curve turned, with the whole interval of its peak within what was "
        f"measured: {_of([r for r in rows if (r['best_of_n_curve'] or {}).get('turned')], rows)} "
        f"seeds. Gold of one answer, at its highest, and of the most: {_chosen(rows)}.",
        "* Reinforcement learning: gold rose and then fell, both beyond 95 % intervals: "
        f"{_of(turned, rows)} seeds.",
        f"* There, a first alarm up to 10 % beyond the KL of gold's peak: {_of(timely, turned)}.",
        f"* Policies trained against the gold itself without any alarm: {_of(calm, rows)}.\n",
        "| seed | accuracy | gold rose | then fell | peak, nats | alarm, nats | by | in time |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, rows),
        "",
        "Gold at the end of a run less gold at its start, means over seeds with Student's "
        "interval; the second pair at the best point of the run, which nobody knows without the "
        "gold.\n",
        "| against the weak proxy | seeds | at the end | 95 % | at its best | 95 % |",
        "|---|---|---|---|---|---|",
        *_remedies(rows),
    ]
    return "\n".join(lines) + "\n"


def _chosen(rows: list[dict[str, Any]]) -> str:
    """Three numbers of each seed."""
    told = []
    for row in rows:
        gold, sizes = row["best_of_n"], row["best_of_n_sizes"]
        top = max(range(len(gold)), key=gold.__getitem__)
        told.append(f"{gold[0]:.3f}, {gold[top]:.3f} (n = {sizes[top]}), {gold[-1]:.3f}")
    return "; ".join(told)


def _of(some: list[Any], all_: list[Any]) -> str:
    if not all_:
        return "none of 0"
    found = wilson(len(some), len(all_))
    return f"{len(some)} of {len(all_)} ({found.low:.0%} to {found.high:.0%})"


def _row(row: dict[str, Any]) -> str:
    changes = [
        "unknown"
        if not row[k]
        else f"{row[k]['estimate']:+.3f} [{row[k]['low']:+.3f}, {row[k]['high']:+.3f}]"
        for k in ("rose", "fell")
    ]
    at = "none" if row["alarm_d"] is None else f"{row['alarm_d'] ** 2:.1f}"
    said = {True: "yes", False: "no", None: "gold did not fall"}[row["in_time"]]
    first = row["alarms"][0] if row["alarms"] else "–"
    cells = [
        row["seed"],
        f"{row['accuracy']:.1%}",
        *changes,
        f"{row['peak_d'] ** 2:.1f}",
        at,
        first,
        said,
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _remedies(rows: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row["remedies"])
    lines = list[str]()
    for name in names:
        found = [r["remedies"][name] for r in rows if r["remedies"].get(name)]
        cells = [NAMES.get(name, "nothing"), len(found)]
        for at in ("end", "best"):
            mean = mean_interval([one[at] for one in found])
            wide = len(found) > 1
            cells += [
                f"{mean.estimate:+.3f}",
                f"{mean.low:+.3f} to {mean.high:+.3f}" if wide else "–",
            ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


if __name__ == "__main__":
    main()
