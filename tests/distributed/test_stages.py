"""Every stage ends where one process does, and draws, scores and says the same on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.distributed import small
from tests.distributed.torchrun import assert_same_run, environment, torchrun, weights

TINY: dict[str, Any] = {
    "model": "scratch:48x2",
    "steps": 3,
    "token_budget": 300,
    "checkpoint_every": 2,
    "eval_every": 2,
    "optimizer": {"lr": 1e-3},
}
ROWS: dict[str, Any] = TINY | {"data": {"source": "demo:comparisons", "limit": 16}, "batch_size": 3}
SAMPLED: dict[str, Any] = {"sampled_prompts": 2, "sampled_tokens": 8}
ONLINE: dict[str, Any] = small.ONLINE | {"steps": 3, "eval_every": 2}
ALL: dict[str, Any] = {"lora": None}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": (
        "sft",
        TINY
        | ALL
        | SAMPLED
        | {"data": {"source": "demo:demonstrations", "limit": 16}, "batch_size": 3}
        | {"activation_checkpointing": True},
    ),
    "sft_lora": (
        "sft",
        TINY | SAMPLED | {"data": {"source": "demo:demonstrations", "limit": 16}, "batch_size": 3},
    ),
    "reward_model": ("reward_model", ROWS | ALL | {"held_out_head": True}),
    "dpo_lora": ("dpo", ROWS | SAMPLED),
    "kto": ("kto", ROWS | ALL | SAMPLED | {"batch_size": 6}),
    "tr_dpo": ("tr_dpo", ROWS | ALL | SAMPLED),
    "process": ("process_reward_model", TINY | {"data": {"source": "demo:solutions", "limit": 12}}),
    "ppo_critic": (
        "ppo",
        ONLINE
        | ALL
        | {"reward": "@reward_model/one"}
        | {"pretraining": {"source": "demo:demonstrations", "batch_size": 3}},
    ),
    "ppo_shared": (
        "ppo",
        ONLINE | {"reward": "exact", "values": "shared", "algorithm": {"vf_coef": 0.1}},
    ),
    "grpo": ("grpo", ONLINE | {"reward": "exact", "answers_per_prompt": 4, "minibatches": 2}),
    "grpo_gpt2": ("grpo", small.GPT2),
    "calculator": (
        "calculator",
        ONLINE
        | {"data": {"source": "task:arithmetic", "limit": 12, "held_out": 0.25}}
        | {"reward": "exact", "environment": {"name": "calculator", "turns": 2, "tokens": 64}},
    ),
    "rounds": (
        "iterative_dpo",
        {"model": "scratch:48x2", "judge": "@reward_model/one", "rounds": 1}
        | {"data": {"source": "demo:prompts", "limit": 12}, "sampling": {"max_tokens": 8}}
        | {"prompts_per_round": 6, "answers_per_prompt": 3, "validation_prompts": 4}
        | {"direct": {"lora": None}, "filters": {"cut_off": True}},
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of every stage: by one process, and by two."""
    folder = tmp_path_factory.mktemp("runs")
    small.gpt2_in(folder)
    file = folder / "runs.json"
    file.write_text(json.dumps(RUNS))
    cache = {"BACKFLIP_CACHE": str(tmp_path_factory.mktemp("cache"))}
    many = ["tests.distributed.many_runs", str(file)]
    alone = subprocess.run(
        [sys.executable, "-m", *many, "one"],
        env=environment(**cache),
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert alone.returncode == 0, alone.stderr
    other = {"BACKFLIP_CACHE": str(tmp_path_factory.mktemp("cache"))}
    several = torchrun([*many, "two"], **other)
    (folder / "said").write_text(several.stderr)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_end_where_one_does(runs: Path, name: str):
    two = runs / name / "two"
    assert (two / "summary.json").is_file(), (runs / "said").read_text()[-3000:]
    settings = RUNS[name][1]
    adapted = settings.get("lora", True) is not None and (two / "adapter").is_dir()
    names = ("model", "adapter") if adapted else ("model",)
    assert_same_run(runs / name / "one", two, names=names)


def test_every_rank_learns_from_the_tokens_that_one_process_draws(runs: Path):
    """A whole loop of ten steps, in which GPT-2 does learn."""
    one, two = (runs / "grpo_gpt2" / way for way in ("one", "two"))
    assert len(small.drawn(one)) == small.GPT2["steps"]
    assert small.drawn(one) == small.drawn(two, rank=0) == small.drawn(two, rank=1)
    begun, learnt = weights(runs, "gpt2"), weights(one)
    assert max(float((begun[name] - learnt[name]).abs().max()) for name in learnt) > 1e-4
