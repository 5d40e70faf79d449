"""Supervision of steps against supervision of outcomes, where a program knows every right step.

    python benchmarks/process.py --runs runs/process            goes on with what is missing
    python benchmarks/process.py --runs … --works grpo vineppo --seeds 0 1 2 3 4

Several processes may work in one folder.

The task is ``task:arithmetic``: signs between numbers, answered line by line. A small model learns
a part of it from examples, and everything begins with that model:

verifiers   the same sampled solutions, labelled step by step by the program, by the program with
            a share of labels turned over, by the model's own continuations (Math-Shepherd), or as
            whole answers (outcome): models of one size learn from each, and choose among answers.
policies    GRPO, PPO and VinePPO under one budget of processor time, rewarded for the outcome, or
            by the process model that learnt from the program's labels.
preferences step-level DPO and DPO on whole answers, from the same sampled solutions.

Everything goes through the functions of ``import backflip as bf`` that a user calls, on one
thread. Writes process.json and process.md.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import json
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from process_report import report

import backflip as bf
from backflip.data.tasks import questions

HERE = Path(__file__).resolve().parent
TASK = "arithmetic:numbers=5,largest=4"
REWARD = {"name": "exact", "after": "="}
"""The last number is the reference, whatever stands before it."""
NOISE = 0.2
RATES = (1e-4, 2e-5)
"""Learning rates of the preference losses."""
WHOLE = "\n\n"
"""A separator that no answer holds: all of it is one step, as an outcome reward model reads it."""
DRAWN: dict[str, Any] = {"max_tokens": 40, "max_rows": 256}
QUIET: dict[str, Any] = {
    "lora": None,
    "trackers": [],
    "threads": 1,
    "eval_every": 100_000,
    "checkpoint_every": 100_000,
}


@dataclass(frozen=True)
class Plan:
    """Sizes of the benchmark."""

    shown: int = 19_000
    """Questions whose right steps the start learns from."""
    warm: int = 193
    """Its optimiser steps."""
    labelled: int = 1000
    """Questions to which solutions are drawn and labelled, anew for every seed."""
    solutions: int = 4
    """Of each of them."""
    continuations: int = 4
    """Behind every step, for Monte-Carlo labels."""
    epochs: int = 5
    """Of a verifier over its solutions."""
    asked: int = 3000
    """Questions that policies practise on."""
    seconds: float = 30.0
    """Of the processor's time in the training of a policy."""
    pairs: int = 60
    """Optimiser steps of DPO, 32 questions each."""
    chosen: int = 160
    """Held-out questions among whose answers verifiers choose."""
    n: int = 16
    """Answers to each of these."""
    tested: int = 512
    """Held-out questions for policies, four answers each."""


SMALL = Plan(2000, 150, 40, 4, 2, 1, 200, 3.0, 2, 12, 4, 12)
"""Everything once, in two minutes; its numbers mean nothing."""


@dataclass(frozen=True)
class Bench:
    """One benchmark in its folder: what is finished there is not done again."""

    runs: Path
    plan: Plan
    works: tuple[str, ...] = ()
    """Names of the rows to make; none: all."""

    def row(self, part: str, name: str, seed: int, make: Callable[[], dict[str, Any]]) -> None:
        """A row of the result, unless it is there."""
        path = self.runs / "rows" / f"{part}-{name}-{seed}.json"
        if path.is_file() or (self.works and name not in (*self.works, "start")):
            return
        began = time.process_time()
        found = {"part": part, "name": name, "seed": seed, **make()}
        found["cpu"] = time.process_time() - began
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)

    def train(self, recipe: str, name: str, **settings: Any) -> str:
        """The folder of a run, trained unless it is finished."""
        run = self.runs / name
        with self.alone(name):
            if not (run / "summary.json").is_file():
                shutil.rmtree(run, ignore_errors=True)
                with contextlib.redirect_stdout(io.StringIO()):
                    bf.train(recipe, run=str(run), **QUIET | settings)
        return str(run)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Other processes in the folder wait before they make the same."""
        with (self.runs / f"{name}.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def write(self, name: str, rows: Iterable[Any]) -> str:
        path = self.runs / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    # ---- what all parts share

    def data(self) -> None:
        """Questions, each in one file alone: shown, asked, test, and solve-SEED for every seed."""
        p = self.plan
        total = p.shown + p.asked + p.tested + 5 * p.labelled
        rows = questions(TASK, total)
        sizes = {"shown": p.shown, "asked": p.asked, "test": p.tested}
        for name, size in (sizes | {f"solve-{seed}": p.labelled for seed in range(5)}).items():
            self.write(f"{name}.jsonl", rows[:size])
            rows = rows[size:]

    def start(self) -> str:
        """The model that everything begins with."""
        shown = {"source": str(self.runs / "shown.jsonl"), "held_out": 0.02, "max_length": 96}
        rate = {"lr": 2e-3, "schedule": "cosine", "warmup": 0.05}
        return self.train(
            "sft",
            "start",
            model="scratch:96x3",
            data=shown,
            steps=self.plan.warm,
            batch_size=64,
            optimizer=rate,
            sampled_prompts=0,
        )

    def labels(self, seed: int) -> dict[str, Any]:
        """Files of the same solutions with labels of every kind; the noise of each kind."""
        done = self.runs / f"labels-{seed}.json"
        with self.alone(done.stem):
            if not done.is_file():
                done.write_text(json.dumps(self.relabelled(seed)))
        return json.loads(done.read_text())

    def relabelled(self, seed: int) -> dict[str, float]:
        """Write the files; the share of labels in each that the program contradicts."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for estimate in ("known", "soft"):
            out = self.runs / f"{estimate}-{seed}.jsonl"
            self.labelled(f"solve-{seed}", out, seed, estimate=estimate)
            rows[estimate] = [json.loads(line) for line in out.read_text().splitlines()]
        true, soft = rows["known"], rows["soft"]
        assert [r["steps"] for r in true] == [r["steps"] for r in soft], "the same solutions"
        draw = random.Random(seed)
        rows["turned"] = [
            _with(r, [(draw.random() < NOISE) != b for b in r["labels"]]) for r in true
        ]
        rows["hard"] = [_with(r, [b and b > 0 for b in r["labels"]]) for r in soft]
        verdicts = [r["labels"][-1] for r in soft]
        rows["outcome"] = [
            r | {"steps": ["\n".join(r["steps"])], "labels": [bool(v)]}
            for r, v in zip(true, verdicts, strict=True)
        ]
        rows["answers"] = [
            {"prompt": r["prompt"], "completion": r["steps"][0], "label": r["labels"][0]}
            for r in rows["outcome"]
        ]
        for kind in ("turned", "hard", "outcome", "answers"):
            self.write(f"{kind}-{seed}.jsonl", rows[kind])
        whole = [{"labels": [r["labels"][-1]]} for r in true]
        noise = {kind: _noise(rows[kind], true) for kind in ("known", "turned", "soft", "hard")}
        return noise | {"outcome": _noise(rows["outcome"], whole)}

    def labelled(self, asked: str, out: Path, seed: int, **settings: Any) -> None:
        bf.label_steps(
            self.start(),
            self.runs / f"{asked}.jsonl",
            REWARD,
            continuations=self.plan.continuations,
            out=out,
            seed=seed,
            **{**DRAWN, "n": self.plan.solutions, **settings},
        )

    def judge(self, kind: str, seed: int) -> str:
        """A verifier that learnt from labels of a kind."""
        self.labels(seed)
        return self.train(
            "process_reward_model",
            f"judge-{kind}-{seed}",
            model=self.start(),
            data={"source": str(self.runs / f"{kind}-{seed}.jsonl"), "held_out": 0.02},
            separator=WHOLE if kind == "outcome" else "\n",
            epochs=self.plan.epochs,
            batch_size=32,
            optimizer={"lr": 2e-3, "schedule": "cosine", "warmup": 0.05},
            seed=seed,
        )

    def tested(self, model: str, seed: int) -> dict[str, Any]:
        """Sampled accuracy on held-out questions, and the share of which one of four is right."""
        page = self.runs / "tested.html"
        asked = self.runs / "test.jsonl"
        found = bf.compute(model, asked, REWARD, n=4, waits=0, seed=seed, out=page, **DRAWN)
        points = {f"{p.method} @{p.budget}": p.accuracy.estimate for p in found.points}
        any_ = "any right (pass@k)"
        return {"sampled": points[f"{any_} @1"], "any_of_4": points[f"{any_} @4"]}


# ---- the three parts


def verifiers(bench: Bench, seed: int) -> None:
    for kind in ("known", "outcome", "hard", "turned", "soft"):
        bench.row("verifiers", kind, seed, lambda kind=kind: verifier(bench, kind, seed))


def verifier(bench: Bench, kind: str, seed: int) -> dict[str, Any]:
    """Noise of its labels, accuracy of its steps, and of the answers that it chooses."""
    run, steps = bench.judge(kind, seed), bench.runs / f"tested-{seed}.jsonl"
    if not steps.is_file():
        bench.labelled("test", steps, seed, estimate="known", n=2)
    found: dict[str, Any] = {}
    if kind != "outcome":
        said = bf.evaluate(run, str(steps)).to_json()
        found |= {"steps": said["accuracy"], "f1": said["f1"], "good": said["good"]}
    curves = bf.compute(
        bench.start(),
        bench.runs / "test.jsonl",
        REWARD,
        process=run,
        n=bench.plan.n,
        waits=0,
        limit=bench.plan.chosen,
        seed=seed,
        out=bench.runs / f"judge-{kind}-{seed}.html",
        **DRAWN,
    )
    points = {f"{p.method} @{p.budget}": p.accuracy.estimate for p in curves.points}
    return found | {"tokens": curves.points[0].tokens, "accuracy": points}


def policies(bench: Bench, seed: int) -> None:
    gain = {"name": "process", "model": "judge", "form": "gain"}
    vine = {"answers_per_prompt": 4, "values": {"answers": 3}}
    critic = {"name": "critic", "optimizer": {"lr": 3e-4, "schedule": "constant"}}
    arms: dict[str, tuple[str, dict[str, Any]]] = {
        "grpo": ("grpo", {}),
        "grpo_process": ("grpo_process", {"reward": gain | {"form": "score"}}),
        "ppo": ("ppo", {"values": critic}),
        "ppo_process": ("ppo", {"values": critic, "reward": gain}),
        "vineppo": ("vineppo", vine),
    }
    for name in ("grpo_process", "ppo_process"):
        recipe, own = arms[name]
        arms[f"{name}_kl"] = recipe, own | {"algorithm": {}}  # the recipe's own price of KL
    for name, (recipe, own) in arms.items():
        bench.row("policies", name, seed, lambda a=(name, recipe, own): policy(bench, *a, seed))


def policy(bench: Bench, name: str, recipe: str, own: dict[str, Any], seed: int) -> dict[str, Any]:
    """Held-out accuracy of a policy after its time."""
    reward = dict(own.get("reward", REWARD))
    if "model" in reward:
        reward["model"] = bench.judge("known", seed)
    settings: dict[str, Any] = {
        "answers_per_prompt": 8,
        "prompts_per_step": 32,
        "data": {"source": str(bench.runs / "asked.jsonl"), "held_out": 0.01, "max_length": 40},
        "algorithm": {"kl_coef": 0.0},
        "optimizer": {"lr": 1e-4, "schedule": "constant", "warmup": 0.0001, "eps": 1e-8},
        "sampling": {"max_tokens": DRAWN["max_tokens"], "temperature": 1.0},
        "shaping": {"missing_eos": 0.0},
        "kl_stop": None,
        "max_rows": 512,
        "steps": 100_000,
        "best": False,
        "validation_prompts": 8,
        "curriculum": {"cpu_minutes": bench.plan.seconds / 60},
    }
    run = bench.train(
        recipe,
        f"{name}-{seed}",
        model=bench.start(),
        seed=seed,
        **settings | own | {"reward": reward},
    )
    return bench.tested(run, seed) | {"steps": bf.Run(Path(run)).summary["steps"]}


def preferences(bench: Bench, seed: int) -> None:
    for recipe, kind in (("step_dpo", "known"), ("dpo", "answers")):
        for rate in RATES:
            name, given = f"{recipe}_{rate:g}", (recipe, kind, rate)
            bench.row("preferences", name, seed, lambda g=given: preferring(bench, *g, seed))


def preferring(bench: Bench, recipe: str, kind: str, rate: float, seed: int) -> dict[str, Any]:
    """Held-out accuracy of a policy that learnt from pairs of steps, or of answers."""
    bench.labels(seed)
    run = bench.train(
        recipe,
        f"{recipe}_{rate:g}-{seed}",
        model=bench.start(),
        data={"source": str(bench.runs / f"{kind}-{seed}.jsonl"), "held_out": 0.02},
        steps=bench.plan.pairs,
        batch_size=32,
        optimizer={"lr": rate, "schedule": "cosine", "warmup": 0.1},
        sampled_prompts=0,
        seed=seed,
    )
    return bench.tested(run, seed) | {"rows": bf.Run(Path(run)).summary["rows"]}


PARTS: dict[str, Callable[[Bench, int], None]] = {
    "verifiers": verifiers,
    "policies": policies,
    "preferences": preferences,
}


def _with(row: dict[str, Any], labels: list[Any]) -> dict[str, Any]:
    return row | {"labels": labels}


def _noise(rows: list[dict[str, Any]], true: list[dict[str, Any]]) -> float:
    """Share of labels that lie on the other side of 0.5 than the true ones."""
    pairs = [
        (said > 0.5) != (right > 0.5)
        for row, other in zip(rows, true, strict=True)
        for said, right in zip(row["labels"], other["labels"], strict=True)
        if said is not None
    ]
    return sum(pairs) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, kept")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--works", nargs="+", default=(), help="names of rows; else all")
    parser.add_argument("--seeds", nargs="+", type=int, choices=range(5), default=(0, 1, 2))
    parser.add_argument("--small", action="store_true", help="once, to see that it runs")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of process.json")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.runs.resolve(), SMALL if given.small else Plan(), tuple(given.works))
    if not (bench.runs / "solve-4.jsonl").is_file():
        bench.data()
    bench.row("start", "start", 0, lambda: bench.tested(bench.start(), 0))
    for seed in given.seeds:
        for part in given.parts:
            PARTS[part](bench, seed)
    rows = [json.loads(path.read_text()) for path in sorted((bench.runs / "rows").glob("*.json"))]
    for path in bench.runs.glob("labels-*.json"):
        of = {"part": "labels", "seed": int(path.stem[-1]), "cpu": 0.0}
        rows += [of | {"name": k, "noise": n} for k, n in json.loads(path.read_text()).items()]
    report(rows, {"task": TASK, "noise": NOISE, **asdict(bench.plan)}, given.out)


if __name__ == "__main__":
    main()
