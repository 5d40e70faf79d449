"""``backflip collect`` in every mode says what it always said; ``backflip feedback`` says the same.

``collect.json`` was recorded from ``collect`` while it was one function; the words of a sentence
that is changed on purpose are changed there too: ``python -m tests.cli.scenes`` records it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

for package in ("fastapi", "sqlalchemy", "nh3"):
    pytest.importorskip(package, reason="the feedback server's packages are an extra")

from tests.cli import scenes  # noqa: E402

GOLDEN: list[dict[str, Any]] = json.loads(scenes.GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, with the files that the scenes read."""
    monkeypatch.chdir(tmp_path)
    for name, value in scenes.SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    for name in scenes.SILENT:
        monkeypatch.delenv(name, raising=False)
    scenes.prepare()
    return tmp_path


def test_collect_says_in_every_mode_what_it_always_said(place: Path):
    assert [scene["words"] for scene in GOLDEN] == scenes.SCENES
    for scene in GOLDEN:
        found = {"words": scene["words"], **scenes.said(["collect", *scene["words"]])}
        assert found == scene


def as_subcommand(words: list[str]) -> list[str]:
    """Words of ``collect`` with one mode, as those of ``feedback``."""
    mode = next((word for word in words if word in scenes.MODES), "")
    if not mode:
        return ["serve", *words]
    at = words.index(mode)
    plain = next((i for i, word in enumerate(words) if word.startswith("-")), at)
    named, options = words[:plain], [*words[plain:at], *words[at + 2 :]]
    value = words[at + 1]
    if mode in ("--power", "--backup", "--restore"):
        return [mode.removeprefix("--"), value, *named, *options]
    return [mode.removeprefix("--"), *named[:1], value, *named[1:], *options]


def test_every_command_of_feedback_says_what_collect_says(place: Path):
    """Scenes of one mode, each in the place of the same history."""
    compared: set[str] = set()
    for scene in GOLDEN:
        words = scene["words"]
        if len(scenes.MODES & set(words)) > 1 or {"--help", "--store"} & set(words):
            scenes.said(["collect", *words])
            continue
        command = as_subcommand(words)
        found = scenes.said(["feedback", *command])
        compared.add(command[0])
        if "Usage:" in scene["err"] or "Usage:" in found["err"]:  # each names itself
            assert found["code"] == scene["code"] == 2
            continue
        assert (words, found) == (words, {key: scene[key] for key in ("code", "out", "err")})
    assert compared >= {word.removeprefix("--") for word in scenes.MODES} | {"serve"}
