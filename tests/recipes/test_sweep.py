"""Several values of a setting in one command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backflip.cli import main as cli
from backflip.data.sources import write_jsonl
from backflip.errors import Interrupted, UserError
from backflip.recipes import sweep as sweeping
from backflip.recipes.sweep import points, results, resume_sweep, train_sweep
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sweep")
    rows = [
        {"prompt": f"Is it {n}?", "chosen": f"good {n}", "rejected": f"evil {n}"} for n in range(20)
    ]
    write_jsonl(folder / "rows.jsonl", rows)
    quick = {"steps": 2, "sampled_prompts": 2, "sampled_tokens": 4, "data.held_out": 0.2}
    return {"model": str(tiny_model(folder / "m")), "data": str(folder / "rows.jsonl"), **quick}


def test_a_sweep_is_a_run_for_every_value_and_one_table(
    shared: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [f"{key}={value}" for key, value in shared.items()]
    command = ["train", "dpo", *words, f"run={tmp_path}/s", "--sweep", "objective.beta=0.05,0.3"]
    with pytest.raises(SystemExit) as left:
        cli.main(command)
    said = capsys.readouterr()
    assert left.value.code == 0, said.err
    text = " ".join(said.out.split())
    for word in (
        "held-out",
        "KL, nats",
        "too few to tell the runs apart",
        "tokens",
        "the longer reply wins",
    ):
        assert word in text
    assert text.count("from the cache, 0 computed") == 1, "the second run asked the reference again"
    found = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert [row["settings"]["objective.beta"] for row in found] == [0.05, 0.3]
    assert (tmp_path / "s" / "compare.html").is_file()
    betas = [point.recipe.objective.beta for point, _ in results(tmp_path / "s")]  # pyright: ignore
    assert betas == [0.05, 0.3]


def test_values_of_several_settings_make_a_grid():
    made = points("dpo", {}, ["objective.beta=0.1,0.3", "lora.rank=4,8"], Path("s"))
    assert [point.name for point in made][:2] == [
        "objective.beta=0.1,lora.rank=4",
        "objective.beta=0.1,lora.rank=8",
    ]
    assert len(made) == 4
    recipe: Any = made[3].recipe
    assert (recipe.objective.beta, recipe.lora.rank) == (0.3, 8)
    assert recipe.run == Path("s") / made[3].name


def test_a_sweep_that_was_interrupted_goes_on_with_what_is_missing(
    shared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, seen = tmp_path / "s", list[str]()
    real = sweeping.train

    def cut(recipe: Any) -> Path:
        if recipe.objective.beta == 0.2:
            raise Interrupted("interrupted")
        return real(recipe)

    monkeypatch.setattr(sweeping, "train", cut)
    given = {**shared, "run": str(folder)}
    with pytest.raises(Interrupted, match=rf"objective.beta=0.2.*backflip resume {folder}"):
        train_sweep("dpo", given, {"objective.beta": [0.1, 0.2, 0.3]})
    assert [point.name for point, _ in results(folder)] == ["objective.beta=0.1"]
    assert not (folder / "sweep.json").exists()
    monkeypatch.undo()
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path / "cache"))
    resume_sweep(moved, before=lambda point: seen.append(point.name))
    assert seen == ["objective.beta=0.2", "objective.beta=0.3"]
    assert len(results(moved)) == 3
    assert not folder.exists()


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (["objective.beta"], "--sweep objective.beta is not a setting with values"),
        (["objective.beta="], "is not a setting with values"),
        (["objective.bta=0.1,0.2"], "Did you mean objective.beta?"),
        (["objective.beta=0.1,0.1"], "the same value twice"),
        (["seed=" + ",".join(map(str, range(65)))], "the sweep has 65 runs"),
        (["objective.beta=0.1,0"], "objective.beta is 0; it must be above 0"),
        (["run=a,b"], "is not a setting with values"),
    ],
)
def test_mistakes_show_before_the_first_run(
    over: list[str], said: str, shared: dict[str, Any], tmp_path: Path
):
    with pytest.raises(UserError) as caught:
        train_sweep("dpo", {**shared, "run": str(tmp_path / "s")}, over)
    assert said in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_a_folder_that_is_taken_is_refused(shared: dict[str, Any], tmp_path: Path):
    (tmp_path / "sweep.yaml").write_text("points: {}\n")
    with pytest.raises(UserError, match=r"already holds a sweep.*backflip resume"):
        train_sweep("dpo", {**shared, "run": str(tmp_path)}, ["objective.beta=0.1"])
    with pytest.raises(UserError, match="damaged"):
        resume_sweep(tmp_path)
