"""A run is a folder that nobody writes over."""

from __future__ import annotations

import errno
import json
import math
import os

import numpy as np
import pytest
import torch

from backflip.errors import UserError
from backflip.training.run_folder import RunFolder, write_atomically


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path):
    run = RunFolder.create(tmp_path / "a run", "stage: sft\n")
    with pytest.raises(UserError, match=r"already holds a run.*backflip resume '.*a run'.*run="):
        RunFolder.create(run.path, "stage: other\n")
    run.write_summary({})
    with pytest.raises(UserError, match=r"already holds a run, which is finished\. For a new one"):
        RunFolder.create(run.path, "stage: other\n")
    assert run.recipe_path.read_text() == "stage: sft\n"


@pytest.mark.parametrize("name", ["model", "checkpoints", "metrics.jsonl"])
def test_a_folder_with_something_to_lose_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"already holds {name}, .* run="):
        RunFolder.create(tmp_path, "stage: sft\n")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_any_other_folder_will_do(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert RunFolder.create(tmp_path, "stage: sft\n").path == tmp_path
    assert RunFolder.open(str(tmp_path)).recipe_path.read_text() == "stage: sft\n"


def test_opening_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r"no run at .*nowhere: it is not there"):
        RunFolder.open(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not a run: it has no recipe.yaml. Seen in it: notes.txt"):
        RunFolder.open(tmp_path)
    with pytest.raises(UserError, match="it is a file"):
        RunFolder.open(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="cannot be made a run's folder"):
        RunFolder.create(tmp_path / "notes.txt", "stage: sft\n")


def test_the_stage_of_a_chain_is_resumed_with_its_chain(tmp_path):
    chain = RunFolder.create(tmp_path / "all", "stage: rlhf\n")
    with chain.locked():
        stage = RunFolder.create(chain.path / "sft", "stage: sft\n")
        with pytest.raises(UserError, match=r"backflip resume \S+/all\. "):
            RunFolder.create(stage.path, "stage: sft\n")


def test_a_lock_is_one_at_a_time_and_may_be_nested(tmp_path):
    run = RunFolder.create(tmp_path / "run", "stage: sft\n")
    other = RunFolder.open(run.path)
    with run.locked():
        with run.locked():
            pass
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} "), other.locked():
            pass
    with other.locked():
        pass


def test_a_summary_is_valid_json_whatever_the_numbers(tmp_path):
    run = RunFolder.create(tmp_path / "run", "stage: sft\n")
    assert not run.finished
    numbers = {"nan": math.nan, "list": [math.inf, 1.5], "numpy": np.float32(2.0)}
    run.write_summary(numbers | {"torch": torch.tensor(3), "path": run.path, "text": "naïve"})
    assert run.finished
    read = json.loads(run.summary_path.read_text(), parse_constant=pytest.fail)
    expected = {"nan": None, "list": [None, 1.5], "numpy": 2.0, "torch": 3, "text": "naïve"}
    assert read == expected | {"path": str(run.path)}


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"disk is full .*: 3 bytes .*backflip resume"):
        write_atomically(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_half_written_models_are_swept_away_and_nothing_else(tmp_path):
    run = RunFolder.create(tmp_path / "run", "stage: sft\n")
    for name in (".model-x1", ".adapter-old-7", "model", ".git"):
        (run.path / name).mkdir()
    (run.path / ".summary.json.new").write_text("{")
    with run.locked():
        pass
    left = sorted(os.listdir(run.path))
    assert left == [".git", ".lock", "model", "recipe.yaml"]
