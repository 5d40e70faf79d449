"""The commands as a user types them, under torchrun and without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.distributed.torchrun import assert_same_run, environment, torchrun

DPO = ["backflip", "train", "dpo", "model=scratch:48x2", "data=demo:comparisons", "data.limit=24"]
DPO += ["steps=3", "lora=null", "sampled_prompts=2", "sampled_tokens=8", "batch_size=4"]
DPO += ["optimizer.lr=1e-3", "checkpoint_every=2", "eval_every=2", "token_budget=400"]


def alone(program: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *program],
        env=environment(),
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )


def test_two_processes_end_where_one_does_and_speak_with_one_voice(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    single, several = alone([*DPO, f"run={one}"]), torchrun([*DPO, f"run={two}"])
    assert single.returncode == several.returncode == 0, several.stderr
    assert_same_run(one, two)
    assert sum("DPO: " in line for line in several.stdout.splitlines()) == 1
    files = [{str(p.relative_to(run)) for p in run.rglob("*")} for run in (one, two)]
    apart = {file.partition("/")[0] for file in files[0] ^ files[1]}
    assert apart == {"checkpoints"}, "there the tensors lie in pieces"
    summary = json.loads((two / "summary.json").read_text())
    assert summary["steps"] == 3


def test_other_commands_say_that_they_take_one_process():
    said = torchrun(["backflip", "recipe", "dpo"])
    assert said.returncode != 0
    assert "Start this command without torchrun" in said.stderr
