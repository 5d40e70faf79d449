"""``backflip push`` with the hub's own client, against a server that stands in for the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import backflip as bf
from backflip.errors import UserError
from tests.hub import TOKEN, Hub, Repository, stand_in
from tests.recipes.tiny import tiny_model

CARD = '---\ntags: [backflip]\n---\n# run\n```python\nname = "runs/x/model"\nprint(name)\n```\n'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as far as it matters here: a model with a card, and what does not go along."""
    tiny_model(tmp_path / "run" / "model")
    (tmp_path / "run" / "model" / "README.md").write_text(CARD)
    (tmp_path / "run" / "recipe.yaml").write_text("stage: sft\n")
    return tmp_path / "run"


@pytest.fixture
def hub():
    with stand_in() as found:
        yield found


def push(hub: Hub, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the client reads its address when it is imported."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    known |= {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "backflip", "push", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=known | environment, check=False
    )


def test_a_model_is_pushed_in_one_commit_and_private(hub, run):
    done = push(hub, str(run), "me/cat")
    assert done.returncode == 0, done.stderr
    assert f"{hub.address}/me/cat, private" in done.stdout
    there = hub.repositories["me/cat"]
    assert (there.private, there.commits) == (True, 1)
    for path in (run / "model").iterdir():
        if path.name != "README.md":
            assert there.files[path.name] == path.read_bytes(), path.name
    assert there.files["README.md"].decode() == CARD.replace("runs/x/model", "me/cat")
    assert set(there.files) == {path.name for path in (run / "model").iterdir()}


def test_a_second_push_replaces_weights_and_keeps_who_may_see_them(hub, run):
    hub.repositories["me/cat"] = Repository(private=True)
    hub.repositories["me/cat"].files = {"model-00001-of-00002.safetensors": b"", "notes.md": b"x"}
    done = push(hub, str(run), "me/cat", "--public")
    assert done.returncode == 0, done.stderr
    assert "stays private" in done.stdout
    assert "model-00001-of-00002.safetensors" in done.stdout
    there = hub.repositories["me/cat"]
    assert there.private
    assert "model-00001-of-00002.safetensors" not in there.files
    assert {"notes.md", "model.safetensors"} <= set(there.files)


def test_a_token_that_may_not_write_is_refused_in_one_line(hub, run):
    done = push(hub, str(run), "me/cat", HF_TOKEN="hf_of_another")
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("backflip: me/cat could not be pushed")
    assert "may write to me: hf auth login, or HF_TOKEN" in said
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("name", "environment", "said"),
    [
        ("cat", {}, "owner/name"),
        ("me/cat", {"HF_TOKEN": ""}, "hf auth login"),
        ("me/cat", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ("me/cat", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub does not answer"),
    ],
    ids=["name", "nobody", "offline", "dead"],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_sent(
    run, monkeypatch, name, environment, said
):
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    for key, value in ({"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"} | environment).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=said) as error:
        bf.push(run, name)
    assert "\n" not in str(error.value)


def test_a_run_without_a_model_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("stage: sft\n")
    with pytest.raises(UserError, match="backflip resume"):
        bf.push(tmp_path, "me/cat")
