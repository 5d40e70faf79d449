"""A policy with a calculator against the same policy without: ``python benchmarks/tools.py``.

The task is a·b + c of two-digit numbers. The calculator takes one operation at a time, so that
whoever uses it takes three turns: a product, a sum, the answer. A tiny model from scratch learns
the form of both ways from examples, half of them answered at once; then GRPO goes on from that one
start, with the calculator and without, under the same settings, five seeds each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import resource
import statistics
import tempfile
from pathlib import Path

import backflip as bf
from backflip.environments.calculator import evaluate
from backflip.functional.statistics import paired_difference

HERE = Path(__file__).resolve()
ENVIRONMENT = {
    "path": f"{HERE}:Pocket",
    "turns": 4,
    "tokens": 64,
    "explain": False,
}
COMMON = {"lora": None, "trackers": []}


class Pocket:
    """A calculator for one operation at a time."""

    def reset(self) -> None:
        """Nothing is remembered."""

    def c(self, expression: str) -> str:
        """
        Calculates.

        Args:
            expression: Two numbers and an operation.
        """
        return evaluate(expression, operations=1)


def right(answer: str, reference: str) -> bool:
    """Whether the last turn is the value."""
    return answer.strip() == reference


def task(count: int, seed: int) -> list[tuple[int, int, int]]:
    """Different questions, in random order."""
    draw = random.Random(seed)
    found = {tuple(draw.randint(11, 99) for _ in range(3)) for _ in range(count)}
    return sorted(found, key=lambda _: draw.random())  # pyright: ignore


def demonstration(a: int, b: int, c: int, *, tool: bool) -> dict:
    product, value = a * b, a * b + c
    asked = [{"role": "user", "content": f"{a}*{b}+{c}"}]
    calls = [
        {"role": "assistant", "content": f"c:{a}*{b}"},
        {"role": "user", "content": f"{product}"},
        {"role": "assistant", "content": f"c:{product}+{c}"},
        {"role": "user", "content": f"{value}"},
    ]
    return {"messages": asked + calls * tool + [{"role": "assistant", "content": f"{value}"}]}


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def started(folder: Path, steps: int) -> str:
    """A model that knows the form of both ways."""
    rows = [demonstration(*one, tool=i % 2 == 0) for i, one in enumerate(task(20_000, seed=1))]
    run = bf.train(
        "sft",
        model="scratch:96x3",
        data={"source": write(folder / "shown.jsonl", rows), "held_out": 0.005, "max_length": 96},
        run=str(folder / "start"),
        steps=steps,
        batch_size=64,
        optimizer={"lr": 2e-3, "schedule": "cosine", "warmup": 0.05},
        sampled_prompts=0,
        eval_every=steps,
        **COMMON,
    )
    return str(run.folder)


def learnt(folder: Path, start: str, seed: int, steps: int, *, tool: bool) -> dict:
    """Held-out sampled accuracy before and after, with CPU seconds."""
    rows = [{"prompt": f"{a}*{b}+{c}", "answer": str(a * b + c)} for a, b, c in task(3000, seed=2)]
    before = resource.getrusage(resource.RUSAGE_SELF)
    run = bf.train(
        "grpo",
        model=start,
        data={"source": write(folder / "asked.jsonl", rows), "held_out": 0.1, "max_length": 32},
        reward=f"{HERE}:right",
        run=str(folder / f"{'with' if tool else 'without'}_{seed}"),
        seed=seed,
        steps=steps,
        prompts_per_step=16,
        answers_per_prompt=8,
        algorithm={"name": "grpo", "kl_coef": 0.0, "epochs": 1},
        optimizer={"lr": 5e-4, "schedule": "constant", "warmup": 0.0},
        sampling={"max_tokens": 16, "temperature": 1.0},
        shaping={"missing_eos": 0.0},
        max_rows=256,
        kl_stop=None,
        best=False,
        validation_prompts=200,
        eval_every=10_000,
        checkpoint_every=10_000,
        **(COMMON | ({"environment": ENVIRONMENT} if tool else {})),
    )
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {when: run.summary[f"reward_{when}"]["mean"] for when in ("before", "after")}
    return {"seed": seed, "tool": tool, "cpu": cpu, **told}


def table(results: list[dict], steps: int, warm: int) -> str:
    title = (__doc__ or "").splitlines()[0].split(":")[0]
    lines = [
        "# A calculator in three turns",
        "",
        f"{title}; a·b + c, sampled accuracy on 200 held-out",
        f"questions before and after {steps} steps of GRPO (16 questions × 8 episodes), from one",
        f"start ({warm} steps of examples). Made by `python benchmarks/tools.py`.",
        "",
        "| policy | before | after, by seed | mean after | CPU seconds a run |",
        "|---|---|---|---|---|",
    ]
    for tool in (True, False):
        rows = [one for one in results if one["tool"] is tool]
        after = [one["after"] for one in rows]
        lines.append(
            f"| {'with the calculator' if tool else 'without'} | {rows[0]['before']:.3f} | "
            f"{', '.join(f'{x:.3f}' for x in after)} | {statistics.mean(after):.3f} | "
            f"{statistics.mean(one['cpu'] for one in rows):.0f} |"
        )
    pairs = [
        (w["after"], o["after"])
        for w in results
        for o in results
        if w["tool"] and not o["tool"] and w["seed"] == o["seed"]
    ]
    return "\n".join([*lines, "", *verdict(pairs)]) + "\n"


def verdict(pairs: list[tuple[float, float]]) -> list[str]:
    """Sentences on accuracies of the same seeds, with the calculator and without."""
    better = sum(w > o for w, o in pairs)
    found = paired_difference(*zip(*pairs, strict=True))
    return [
        f"The policy with the calculator is better in {better} of {len(pairs)} seeds, by "
        f"{found.estimate:.3f} ({found.low:.3f} to {found.high:.3f}: Student's 95 % interval of",
        "the paired differences, wider on a side to which they are skewed).",
        "",
        "Process reward models and step-level DPO were compared on the scratchpad task: see",
        "[process.md](process.md).",
    ]


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--seeds", type=int, default=5)
    given.add_argument("--steps", type=int, default=40)
    given.add_argument("--warm", type=int, default=500)
    given.add_argument("--start", help="a model that was warmed up before")
    given.add_argument("--out", type=Path, default=HERE.with_suffix(".md"))
    settings = given.parse_args()
    results: list[dict] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.redirect_stdout(io.StringIO()):
            start = settings.start or started(folder, settings.warm)
        for seed in range(settings.seeds):
            for tool in (True, False):
                with contextlib.redirect_stdout(io.StringIO()):
                    results.append(learnt(folder, start, seed, settings.steps, tool=tool))
                print(json.dumps(results[-1]), flush=True)
    settings.out.write_text(table(results, settings.steps, settings.warm), encoding="utf-8")
    print(settings.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
