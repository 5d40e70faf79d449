"""A checkpoint is whole or not there, and says what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from backflip.errors import UserError
from backflip.models.causal import CausalPolicy
from backflip.models.heads import RewardModel
from backflip.models.learnt import learnt
from backflip.models.lora import LoraSettings, add_lora
from backflip.training import checkpoints
from backflip.training.checkpoints import CheckpointStore, restore
from tests.models.families import tiny

TENSORS = {
    "half": torch.randn(3, 2).half(),
    "brain": torch.randn(2, 2, 2).bfloat16(),
    "turned": torch.arange(6.0).reshape(2, 3).t(),
    "number": torch.tensor(2.5),
    "nothing": torch.zeros(0, 4),
    "flags": torch.tensor([True, False, True]),
    "count": torch.tensor([2**40, -1]),
}


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "my run" / "checkpoints")


def save(store, step, value=1.0):
    return store.save(step, {"m": {"w": torch.full((64,), value)}}, {"step": step}, {"about": step})


def test_what_is_saved_comes_back_to_the_bit(store):
    state = {"moments": [torch.randn(3)], "pair": (1, None), "name": "x", 3: {"deep": True}}
    store.save(12, {"a": TENSORS, "b": {"w": torch.ones(2)}}, state, {"best": 0.1})
    latest = store.latest()
    assert (latest.step, latest.path.name, latest.about) == (12, "step_000012", {"best": 0.1})
    back = latest.weights("a")
    assert back.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor), name
    loaded = latest.state()
    assert torch.equal(loaded.pop("moments")[0], state.pop("moments")[0])
    assert loaded == state
    with pytest.raises(UserError, match="holds no module critic, only: a, b"):
        latest.weights("critic")


def test_weights_are_plain_safetensors(store):
    """Read by the library, which checks offsets and alignment, not by our own code."""
    path = save(store, 1, 3.0).path / "m.safetensors"
    assert torch.equal(load_file(path)["w"], torch.full((64,), 3.0))
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        (lambda p: os.truncate(p / "m.safetensors", 50), "m.safetensors has 50 bytes where"),
        (lambda p: (p / "state.pt").unlink(), "state.pt is missing"),
        (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda p: os.truncate(p / "manifest.json", 30), "manifest.json cannot be read"),
        (lambda p: flip(p / "state.pt"), "state.pt is not what was written"),
        (lambda p: flip(p / "m.safetensors"), "m.safetensors is not what was written"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_the_reason(store, hurt, said):
    save(store, 1)
    hurt(save(store, 2).path)
    with pytest.warns(UserWarning, match=f"step_000002 is damaged and passed over: {said}"):
        assert store.latest().step == 1


def flip(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def test_when_all_are_damaged_it_is_an_error_and_nothing_is_removed(store):
    os.truncate(save(store, 1).path / "state.pt", 3)
    with (
        pytest.warns(UserWarning, match="state.pt has 3 bytes"),
        pytest.raises(UserError, match="none of the 1 checkpoints is whole"),
    ):
        store.latest()
    assert store.steps() == [1]


def test_no_checkpoint_is_none(store):
    assert store.latest() is None


def test_retention(store):
    for step in (5, 10, 15, 20):
        save(store, step)
    store.retain(2, up_to=20, also=[5])
    assert store.steps() == [5, 15, 20]
    store.retain(1, up_to=15)
    assert store.steps() == [15], "20 was beyond where the run is now"
    store.retain(0, up_to=15)
    assert store.steps() == [15], "one is always kept"
    assert [p.name for p in store.folder.iterdir()] == ["step_000015"]


def test_a_save_replaces_what_bears_its_name(store):
    os.truncate(save(store, 3, 1.0).path / "state.pt", 3)
    save(store, 3, 2.0)
    assert store.latest().weights("m")["w"][0] == 2.0


def test_leftovers_are_no_checkpoints_and_are_cleaned(store):
    save(store, 1)
    shutil.copytree(store.path(1), store.folder / ".tmp-step_000002")
    shutil.copytree(store.path(1), store.folder / ".tmp-gone-step_000000")
    assert store.latest().step == 1
    store.clean()
    assert [p.name for p in store.folder.iterdir()] == ["step_000001"]


FULL_DISK = r"disk is full.*[\d,]+ bytes .*untouched.*backflip resume '.*my run'"


def test_a_file_that_does_not_fit_is_a_full_disk(store):
    """The operating system refuses to write more than 20,000 bytes into one file."""
    save(store, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = {"m": {"w": torch.randn(10_000)}}
    state = {"moments": torch.randn(10_000)}
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        for weights, rest in ((big, {}), ({}, state)):
            with pytest.raises(UserError, match=FULL_DISK):
                store.save(2, weights, rest, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in store.folder.iterdir()] == ["step_000001"]
    assert store.latest().step == 1


@pytest.mark.parametrize("call", range(5))
def test_a_disk_that_fills_up_late_is_a_full_disk(store, call, monkeypatch):
    """Many file systems say so only when they are asked to put the data down."""
    save(store, 1)
    calls = iter(range(99))
    fsync = os.fsync

    def full(handle):
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=FULL_DISK):
        save(store, 2)
    monkeypatch.undo()
    assert not list(store.folder.glob(".tmp*"))
    assert store.latest().step == (1 if call < 4 else 2)


def test_too_little_room_is_noticed_before_a_byte_is_written(store, monkeypatch):
    save(store, 1)
    usage = shutil.disk_usage(store.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2_000_000))
    monkeypatch.setattr(checkpoints, "write_all", lambda *args: pytest.fail("it wrote"))
    needed = 8_000_000 + checkpoints.SLACK
    weights = {"m": {"w": torch.zeros(1_000_000)}}
    with pytest.raises(UserError, match=rf"0.00 GB are free.*: {needed:,} bytes \(0.01 GB\)"):
        store.save(2, weights, {"moments": torch.zeros(1_000_000)}, {})


def test_another_failure_is_no_full_disk(store):
    store.folder.parent.mkdir()
    store.folder.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot be written: File exists.*backflip resume"):
        save(store, 1)


@pytest.mark.parametrize("value", [np.float64(1.0), {1, 2}, nn.Linear(1, 1), np.zeros(3)])
def test_state_that_could_not_be_loaded_is_refused_when_it_is_saved(store, value):
    with pytest.raises(TypeError, match=r"state\.loop\.thing is a "):
        store.save(1, {}, {"loop": {"thing": value}}, {})
    assert store.latest() is None


def test_only_what_trains_is_saved():
    """LoRA: its matrices. A reward model: its head too, and the scale, which is a buffer."""
    adapted = CausalPolicy(add_lora(tiny("llama"), LoraSettings(rank=2)))
    assert learnt(adapted)
    assert all("lora_" in name for name in learnt(adapted))
    model = RewardModel(add_lora(tiny("llama"), LoraSettings(rank=2)))
    names = learnt(model).keys()
    assert {"score.weight", "mean", "std"} <= names
    assert all("lora_" in n or n in ("score.weight", "mean", "std") for n in names)


def test_tied_weights_are_saved_once_and_restored_in_place():
    policy = CausalPolicy(tiny("gpt2"))
    saved = {name: tensor.detach().clone() for name, tensor in learnt(policy).items()}
    assert sum(t.numel() for t in saved.values()) == sum(p.numel() for p in policy.parameters())
    addresses = [p.data_ptr() for p in policy.parameters()]
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    restore(policy, saved, Path("a checkpoint"))
    assert addresses == [p.data_ptr() for p in policy.parameters()]
    for name, tensor in learnt(policy).items():
        assert torch.equal(tensor, saved[name])


def test_the_manifest_is_for_people_too(store):
    manifest = json.loads((save(store, 7).path / "manifest.json").read_text())
    assert manifest["version"] == 1
    assert (
        manifest["files"]["m.safetensors"]["bytes"]
        == (store.path(7) / "m.safetensors").stat().st_size
    )
