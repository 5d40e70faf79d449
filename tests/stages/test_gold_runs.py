"""A gold that is watched in a real run: it is measured, nothing learns of it, alarms act."""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from backflip.monitor.log import read_metrics
from backflip.monitor.progress import Progress
from backflip.recipes.load import load_recipe
from backflip.recipes.run import train

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK = {
    "model": "scratch:24x1",
    "data": {"source": "task:sorting:size=60", "max_length": 64, "held_out": 0.2},
    "reward": {"name": "length", "most": 4},
    "steps": 4,
    "prompts_per_step": 2,
    "answers_per_prompt": 2,
    "lora": None,
    "sampling": {"max_tokens": 6, "temperature": 1.0},
    "validation_prompts": 4,
    "checkpoint_every": 2,
    "best": False,
    "optimizer.lr": 1e-3,
    "algorithm.kl_coef": 0.1,
    "threads": 1,
}


def run(folder, **settings):
    recipe = load_recipe("grpo", {**QUICK, "run": str(folder), **settings})
    return train(recipe, progress=Progress(console=Console(file=io.StringIO(), width=100)))


def test_gold_is_measured_at_every_step_and_changes_no_weight(tmp_path):
    with_gold, without = run(tmp_path / "a", gold="agreement"), run(tmp_path / "b")
    told = [e.metrics for e in read_metrics(with_gold) if e.step]
    assert all(0 <= m["gold"] <= 1 for m in told)
    summary = json.loads((with_gold / "summary.json").read_text())
    assert {"gold_before", "gold_after", "gold_gain"} <= set(summary)
    files = [folder / "model" / "model.safetensors" for folder in (with_gold, without)]
    first, second = map(load_file, files)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any("gold" in m for e in read_metrics(without) for m in e.metrics)


def test_an_alarm_takes_a_run_back_to_the_checkpoint_before_it(tmp_path):
    """A KL of more than nothing stops it; the alarm may ring at any step behind the second."""
    ended = run(
        tmp_path / "run",
        **{
            "steps": 40,
            "optimizer.lr": 3e-2,
            "kl_stop": 2.0,
            "on_alarm.roll_back": ["kl_too_high"],
        },
    )
    summary = json.loads((ended / "summary.json").read_text())
    alarms = [json.loads(line) for line in (ended / "alarms.jsonl").read_text().splitlines()]
    step = min(a["step"] for a in alarms if a["name"] == "kl_too_high")
    assert summary["steps"] == step < 40
    assert summary["rolled_back_to"] == 2 * ((step - 1) // 2)
    assert summary["kl_after"] < 2.0
