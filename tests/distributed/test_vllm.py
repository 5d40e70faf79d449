"""A server of the run's own, asked by rank 0 for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.distributed.torchrun import torchrun
from tests.generate.test_vllm_engine import running
from tests.generate.vllm import in_its_place
from tests.recipes.tiny import questions, tiny_model

pytestmark = pytest.mark.distributed


def test_two_ranks_share_a_server_that_has_their_weights(tmp_path: Path):
    """After every step it states what the ranks read, and it goes with them."""
    python, _ = in_its_place(tmp_path)
    model, data = tiny_model(tmp_path / "m"), questions(tmp_path / "q.jsonl")
    settings = ["reward=length", "reward.most=3", "engine=vllm", f"engine.python={python}"]
    settings += ["lora=null", "steps=3", "prompts_per_step=2", "validation_prompts=2"]
    settings += ["sampling.max_tokens=4", "optimizer.lr=1e-2", f"run={tmp_path}/run"]
    given = [f"model={model}", f"data={data}", *settings]
    said = torchrun(["backflip", "train", "grpo", *given])
    assert said.returncode == 0, said.stderr
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["metrics"] for line in lines]
    gaps = [step["sampler_gap"] for step in steps if "sampler_gap" in step]
    assert len(gaps) == 3
    assert max(gaps) < 1e-4
    assert not running("backflip-vllm")


def test_answers_ahead_are_refused_before_anything_is_loaded(tmp_path: Path):
    data = questions(tmp_path / "q.jsonl")
    given = ["model=scratch:24x1", f"data={data}", "reward=length", "reward.most=3", "ahead=1"]
    said = torchrun(["backflip", "train", "grpo", *given, f"run={tmp_path}/run"])
    assert said.returncode != 0
    assert "ahead is 1 in a run of 2 processes" in said.stderr
    assert "Set cluster.samplers=1, or engine=vllm, or ahead=0" in said.stderr
