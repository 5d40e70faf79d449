"""The laboratory from its recipe to its page, on a model of a few thousand numbers."""

from __future__ import annotations

import io
import json
import shutil

import pytest
from rich.console import Console

from backflip.data.records import Tally
from backflip.errors import UserError
from backflip.laboratory.labels import write_labels
from backflip.monitor.progress import Progress
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe
from backflip.recipes.run import resume, train

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK = {
    "model": "scratch:24x1",
    "data": {"source": "task:sorting:size=400", "max_length": 64, "held_out": 0.2},
    "labels": [20, 40],
    "sizes": [],
    "noise": [0.25],
    "remedies": ["kl", "ensemble", "early_stop"],
    "members": 2,
    "best_of": 8,
    "best_of_prompts": 8,
    "sft.steps": 25,
    "sft.batch_size": 32,
    "sft.optimizer.lr": 1e-2,
    "reward_model.steps": 2,
    "reward_model.scale_answers": 8,
    "online.steps": 10,
    "online.eval_every": 1000,
    "online.prompts_per_step": 2,
    "online.answers_per_prompt": 2,
    "online.validation_prompts": 4,
    "threads": 1,
}


def laboratory(folder, **settings):
    return load_recipe("overoptimization", {**QUICK, "run": str(folder), **settings})


def quiet():
    return Progress(console=Console(file=io.StringIO(), width=100))


@pytest.mark.slow
def test_one_command_gives_curves_alarms_and_the_table_of_remedies(tmp_path):
    run = train(laboratory(tmp_path / "run"), progress=quiet())
    found = json.loads((run / "summary.json").read_text())
    assert found["weak"] == "labels_20"
    assert set(found["proxies"]) == {"labels_20", "labels_40", "noise_0.25"}
    assert set(found["courses"]) == {*found["proxies"], "gold", "ensemble", "kl"}
    assert found["best_of_n"]["gold"]["n"] == [1, 2, 4, 8]
    by_gold = [point["estimate"] for point in found["best_of_n"]["gold"]["gold"]]
    assert by_gold == sorted(by_gold)  # whoever chooses by the gold gains by it
    assert [row["name"] for row in found["remedies"]] == [
        "labels_20",
        "ensemble",
        "kl",
        "early_stop",
        "gold",
    ]
    noisy = (run / "labels" / "noise_0.25.jsonl").read_text().splitlines()
    clean = (run / "labels" / "labels_40.jsonl").read_text().splitlines()
    assert sum(a != b for a, b in zip(noisy, clean, strict=True)) == 10
    page = (run / "report.html").read_text()
    assert "Gold, best of n" in page
    assert "against the weak proxy" in page
    kept = {p: p.stat().st_mtime_ns for p in run.glob("*/summary.json")}
    (run / "summary.json").unlink()
    shutil.rmtree(run / "against_kl")
    resume(run, progress=quiet())
    assert (run / "summary.json").is_file()
    still = {p: p.stat().st_mtime_ns for p in run.glob("*/summary.json")}
    assert {p: t for p, t in still.items() if "against_kl" not in str(p)} == {
        p: t for p, t in kept.items() if "against_kl" not in str(p)
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": [50, 50]}, "the same number twice"),
        ({"online.steps": 9}, "Set online.steps=10 or more"),
        ({"gold": "self"}, "gold"),
        ({"online.gold": "exact"}, "online.gold is set"),
    ],
)
def test_settings_that_do_not_go_together_are_named(tmp_path, settings, said):
    with pytest.raises(UserError, match=said):
        check_recipe(laboratory(tmp_path / "run", **settings))


def test_more_labels_than_the_start_can_give_are_refused(tmp_path):
    class Few:
        """A start whose answers give three comparisons."""

        def pairs(self, count, *, held_out):
            return [{"prompt": [], "chosen": [], "rejected": []}] * 3, Tally()

    with pytest.raises(UserError, match="gave 3 comparisons"):
        write_labels(Few(), tmp_path, 5)
