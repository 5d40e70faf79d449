"""What a shell is answered at Tab, by the protocol of each shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backflip.cli.complete import whole_words


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.yaml").write_text("stage: sft\n")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "mine.yaml").write_text("stage: sft\n")
    return tmp_path


def answer(place: Path, **asked: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from backflip.cli.main import main; main()"],
        cwd=place, env=os.environ | asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.stdout


def in_zsh(place: Path, line: str) -> str:
    return answer(place, _BACKFLIP_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)


def in_fish(place: Path, line: str) -> list[str]:
    more = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": line}
    said = answer(place, _BACKFLIP_COMPLETE="complete_fish", **more)
    return [entry.split("\t")[0] for entry in said.splitlines() if entry]


def in_bash(place: Path, *words: str) -> list[str]:
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    return answer(place, _BACKFLIP_COMPLETE="complete_bash", **asked).splitlines()


def test_recipes_are_offered_by_their_names_and_files(place: Path):
    assert {"dpo", "ppo", "mine.yaml"} <= set(in_fish(place, "backflip train "))
    assert in_bash(place, "backflip", "train", "iter") == ["iterative_dpo"]
    assert '"ppo":"PPO under a KL leash' in in_zsh(place, "backflip recipe pp")


def test_settings_are_those_of_the_recipe(place: Path):
    found = in_fish(place, "backflip train ppo algorithm.")
    assert "algorithm.kl_coef=" in found
    assert all(word.startswith("algorithm.") for word in found)
    assert in_fish(place, "backflip train sft algorithm.") == []
    assert "objective.beta=" in in_fish(place, "backflip check dpo obj")
    assert "objective.target_margin=" not in in_fish(place, "backflip check dpo obj")


def test_behind_the_sign_stand_values(place: Path):
    assert {"critic=separate", "critic=shared"} == set(in_fish(place, "backflip train ppo critic="))
    found = in_fish(place, "backflip train dpo model=")
    assert {"model=smollm2", "model=runs/first", "model=runs/second"} <= set(found)
    found = in_fish(place, "backflip train dpo data=")
    assert {"data=rows.jsonl", "data=demo:comparisons"} <= set(found)


def test_bash_which_breaks_words_gets_the_rest_alone(place: Path):
    assert {"separate", "shared"} == set(in_bash(place, "backflip", "train", "ppo", "critic", "="))
    assert in_bash(place, "backflip", "train", "ppo", "model", "=", "runs/f")[0] == "runs/first"
    found = in_bash(place, "backflip", "train", "dpo", "data", "=", "demo", ":", "pr")
    assert found == ["prompts"]


def test_words_are_whole_again_wherever_the_cursor_stands():
    asked = {"COMP_WORDS": "backflip\ntrain\nppo\nmodel\n=\nx\n", "COMP_CWORD": "6"}
    assert whole_words(asked) == ""
    assert asked == {"COMP_WORDS": "backflip train ppo model=x", "COMP_CWORD": "4"}


def test_runs_are_offered_where_a_run_is_meant(place: Path):
    for command in ("resume", "show", "chat", "evaluate"):
        assert {"runs/first", "runs/second"} <= set(in_fish(place, f"backflip {command} "))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_can_be_shown(place: Path, shell: str):
    said = answer(place, _BACKFLIP_COMPLETE=f"source_{shell}")
    assert "_BACKFLIP_COMPLETE" in said


def test_nothing_heavy_is_loaded_to_answer():
    code = (
        "import sys\nfrom backflip.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    asked = {"_BACKFLIP_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | asked | {"_TYPER_COMPLETE_ARGS": "backflip train ppo algorithm."},
    )  # fmt: skip
    assert done.stderr.strip() == "[]"
    assert "algorithm.kl_coef=" in done.stdout
