"""A kind of stage is shown by one file, whatever its runs call the stage."""

from __future__ import annotations

import shutil

import pytest

from backflip.monitor import views
from backflip.monitor.folder import read_run
from backflip.monitor.log import METRICS, Alarm, MetricsLog
from backflip.monitor.report import cards, compare, render, sentences, table
from backflip.monitor.views import VIEWS, view_of
from tests.monitor.folders import direct_run, ppo_run, reward_model_run, save
from tests.monitor.test_report import Page

NEW_KIND = """
from backflip.monitor.rules.shared import NonFinite
from backflip.monitor.views.base import Card, Panel, View

VIEW = View(
    stages=("distillation",),
    place=9,
    title="Distillation",
    headlines=("divergence",),
    panels=lambda stage: (Panel("Divergence", "nats", {"divergence": "from the teacher"}),),
    rules=lambda kl_stop, steps: (NonFinite(),),
    sentences=lambda stage: (f"It ended {stage.last('divergence'):.1f} nats from its teacher.",),
    cards=lambda stage: (Card("Divergence", "0.5 nats"), None),
    table=lambda stage: (["step"], [[str(entry.step)] for entry in stage.entries]),
)
"""


@pytest.fixture
def found_again():
    """Views found anew while a test runs, and as they were after it."""
    before, path = dict(VIEWS), list(views.__path__)
    yield lambda: VIEWS.update(views.discover())
    VIEWS.clear()
    VIEWS.update(before)
    views.__path__[:] = path


def test_one_file_is_all_that_a_new_kind_of_stage_needs(tmp_path, found_again):
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "distillation.py").write_text(NEW_KIND)
    views.__path__.append(str(tmp_path / "views"))
    found_again()
    log = MetricsLog(tmp_path / "run")
    for step in (1, 2, 3):
        log.append(step, "distillation", {"divergence": 1.5 / step})
    page = Page(render(tmp_path / "run"))
    for text in ("Distillation step 3", "0.5 nats from its teacher", "from the teacher"):
        assert text in page.text
    assert "Divergence: from the teacher from 1.5 to 0.5" in page.labels()
    head, rows = table(
        [(f.name, read_run(f)) for f in (ppo_run(tmp_path / "ppo"), tmp_path / "run")]
    )
    assert [row[head.index("Divergence")] for row in rows] == ["—", "0.5 nats"]
    assert [rule.name for rule in view_of("distillation").rules(None, 0)] == ["non_finite"]


def renamed(folder, stage):
    """The same run under another name of its stage."""
    copy = shutil.copytree(folder, folder.parent / stage / "run")
    for path in copy.glob("*.jsonl"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"stage": "ppo"', f'"stage": "{stage}"'), encoding="utf-8")
    return copy


def test_old_and_new_names_of_a_stage_give_the_same_picture(tmp_path):
    old = ppo_run(tmp_path / "run")
    MetricsLog(old).alarms([Alarm(9, "kl_too_high", "warn", "KL is 21 nats.", "ppo")])
    (old / "recipe.yaml").write_text("stage: ppo\nalgorithm:\n  name: one_step_ppo\n")
    new = renamed(old, "online")
    a, b = (render(folder).replace("-online", "-ppo") for folder in (old, new))
    assert a == b
    assert "One-step PPO step 30" in Page(b).text
    page = Page(compare([old, new]))
    assert page.tags.count("section") == 2  # the results, and one stage by either name
    assert all(len(chart["series"]) == 2 for chart in page.charts())


@pytest.mark.parametrize("stage", sorted(VIEWS))
def test_what_a_progress_bar_shows_is_no_policy_gradient_loss(stage):
    assert view_of(stage).headlines
    assert not {"policy_loss", "policy"} & set(view_of(stage).headlines)


def test_a_chain_is_told_in_the_order_of_its_stages(tmp_path):
    ppo_run(tmp_path / "ppo")
    reward_model_run(tmp_path / "reward_model")
    log = MetricsLog(tmp_path / "sft")
    log.append(1, "sft", {"loss": 3.0, "val_loss": 3.0, "val_units": 64.0})
    save(tmp_path / "sft" / "summary.json", {"val_loss_before": 3.5, "val_loss": 3.0})
    first, second, third = sentences(read_run(tmp_path))
    assert first == "The held-out loss went from 3.50 to 3.00 nats a token."
    assert second.startswith("The reward model agrees with 73.2 %")
    assert third.startswith("The reward rose")
    assert "Validation loss" not in {card.label for card in cards(read_run(tmp_path))}
    assert "Validation loss" in {card.label for card in cards(read_run(tmp_path / "sft"))}


def test_only_a_recipe_around_stages_says_that_more_are_to_come(tmp_path):
    """Two stages that somebody trained one after the other into one folder are finished."""
    import os

    for stage, run in (("reward_model", reward_model_run), ("direct", direct_run)):
        os.utime(run(tmp_path / stage) / METRICS, (0, 0))
    assert read_run(tmp_path).state == "finished"
    (tmp_path / "recipe.yaml").write_text("stage: rlhf\n")
    assert read_run(tmp_path).state == "unfinished"
    save(tmp_path / "summary.json", {"seconds": 3})
    assert read_run(tmp_path).state == "finished"


def test_a_stage_that_nobody_knows_is_shown_by_what_it_measures(tmp_path):
    log = MetricsLog(tmp_path / "run")
    for step in (1, 2):
        log.append(step, "a_stage_to_come", {"reward": 0.5 * step, "kl": 1.0})
    page = Page(render(tmp_path / "run"))
    assert "A stage to come step 2" in page.text
    assert "Reward: reward from 0.5 to 1" in page.labels()
    head, [row] = table([("run", read_run(tmp_path / "run"))])
    assert row[head.index("Reward")] == "0.50 → 1.00"
