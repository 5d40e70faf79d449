"""Runs whose answers are drawn ahead, by the command's own way in."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import backflip as bf
from backflip.errors import Interrupted
from backflip.monitor.log import read_metrics
from backflip.recipes.load import load_recipe
from tests.recipes.tiny import questions, tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK: dict[str, Any] = {
    "steps": 6,
    "ahead": 2,
    "prompts_per_step": 2,
    "answers_per_prompt": 2,
    "sampling.max_tokens": 4,
    "validation_prompts": 2,
    "eval_every": 3,
    "checkpoint_every": 2,
    "optimizer.lr": 1e-3,
    "threads": 1,
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("ahead")
    return {"model": str(tiny_model(folder / "m")), "data": questions(folder / "q.jsonl")}


def low(answer: str) -> float:
    """Something that a policy can learn."""
    return sum(character < "m" for character in answer) / 4


def of(folder: Path) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """(metrics of the steps without their times, the weights at the end)."""
    from safetensors.torch import load_file

    entries = [entry for entry in read_metrics(folder) if "lag" in entry.metrics]
    metrics = [
        {name: x for name, x in entry.metrics.items() if not name.startswith(("share", "seconds"))}
        for entry in entries
    ]
    newest = max((folder / "checkpoints").glob("step_*"))
    return metrics, load_file(newest / "policy.safetensors")


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_run_ahead_that_was_stopped_ends_as_one_that_was_not(
    lora: Any, given: dict[str, str], tmp_path: Path
):
    settings = {**given, **QUICK, "lora": lora}
    whole = bf.train("grpo", reward=low, run=str(tmp_path / "whole"), **settings)
    asked = [0]

    def stopping(answer: str) -> float:
        asked[0] += 1
        if asked[0] == 16:
            os.kill(os.getpid(), signal.SIGTERM)
        return low(answer)

    with pytest.raises(Interrupted, match="stopped after step"):
        bf.train("grpo", reward=stopping, run=str(tmp_path / "broken"), **settings)
    broken = bf.resume(str(tmp_path / "broken"), reward=low)
    (one, weights), (other, others) = of(Path(whole.folder)), of(Path(broken.folder))
    assert [step["lag"] for step in one] == [0, 1, 2, 2, 2, 2]
    assert len(one) == 6
    assert one == other
    assert all(weights[name].equal(others[name]) for name in weights)


def test_what_is_done_to_old_answers_is_said(given: dict[str, str], tmp_path: Path, capsys: Any):
    run = bf.train("grpo", reward=low, run=str(tmp_path / "r"), **{**given, **QUICK})
    said = capsys.readouterr()
    assert "weights that are up to 2 steps old" in said.out + said.err
    metrics = [entry.metrics for entry in read_metrics(run.folder) if "lag" in entry.metrics]
    assert {"sampler_gap", "sampler_kl", "effective_share", "lag_max"} <= metrics[-1].keys()


@pytest.mark.parametrize("name", ["vineppo", "remax"])
def test_who_needs_the_sampler_while_it_learns_draws_nothing_ahead(name: str):
    (fault,) = load_recipe(name, ["reward=exact", "data=x.jsonl", "run=r", "ahead=1"]).faults()
    assert "ahead is 1" in fault
    assert "Set ahead=0" in fault


def test_a_teacher_grades_no_old_answers():
    words = ["reward={name: teacher, model: m}", "data=x.jsonl", "run=r", "ahead=1"]
    (fault,) = load_recipe("on_policy_distillation", words).faults()
    assert "a teacher's reward" in fault


def test_an_episode_is_played_ahead_as_well(given: dict[str, str], tmp_path: Path):
    settings = {**given, **QUICK, "environment": "guessing_game", "steps": 3}
    run = bf.train("grpo", run=str(tmp_path / "r"), **settings)
    lags = [e.metrics["lag"] for e in read_metrics(run.folder) if "lag" in e.metrics]
    assert lags == [0, 1, 2]
