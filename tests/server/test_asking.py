"""Choosing what is asked next, from a project's page to the priorities of its items."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backflip.cli import main as cli
from backflip.errors import UserError
from backflip.feedback.projects.store import open_store
from backflip.feedback.statistics.simulate import uniform
from backflip.reward.panel import log_odds
from backflip.server.work import ask_command, training
from tests.reward.test_panel import reward_model
from tests.server.served import Browser, Served, pairs
from tests.server.test_results import wait_for_jobs

WORDS = ["kind", "warm", "clear", "rude", "cold", "vague"]


def pair(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Two texts of kind and of rude words."""
    texts = [f"{' '.join(rng.choice(WORDS, 12))} {number} {side}" for side in "ab"]
    question = [{"role": "user", "content": f"question {number}"}]
    return {"prompt": question, "answers": [{"text": text} for text in texts]}


@pytest.fixture
def tone(server: Served) -> Any:
    """A hundred pairs of which forty have been judged, and twins that differ in nothing read."""
    project = server.project(items=0, raters_per_item=1, random_share=0.2)
    rng = np.random.default_rng(0)
    project.add_items([pair(n, rng) for n in range(100)])
    person = server.person("Alan")
    project.enrol(person)
    for _ in range(40):
        shown = project.next(person)[0]
        kind = [sum(a["text"].count(w) for w in WORDS[:3]) for a in shown.payload["answers"]]
        project.answer(person, shown.item_id, {"choice": "ab"[kind[1] > kind[0]]})
    for n in range(3):
        words = " ".join(rng.choice(WORDS, 60))
        answers = [{"text": words}, {"text": words + "!"}]
        prompt = [{"role": "user", "content": f"twins {n}"}]
        project.add_items([{"prompt": prompt, "answers": answers}])
    return project


def choose(server: Served, lead: Browser, **form: str) -> str:
    """The page after a round has been chosen."""
    lead.get("/projects/tone/asking")
    lead.send("/projects/tone/asking", {"random_share": "20", "count": "10", **form})
    wait_for_jobs(server)
    return lead.get("/projects/tone/asking").text


def test_a_round_is_chosen_beside_the_server_and_told_on_the_page(
    server: Served, tone: Any, lead: Browser
):
    page = choose(server, lead, strategy="information", screen="yes", sample_back="0")
    assert "Information gain: 10 items come first" in page
    assert "learnt from 40 judged items" in page
    first = [row for row in tone.items(limit=200) if row.origin == "active"]
    assert len(first) == 10
    assert all(0 < row.priority <= 1 for row in first)
    assert any(row.origin == "random" for row in tone.items(limit=200))
    assert "near-identical" in page
    left_out = lead.get("/projects/tone/screened").text
    assert left_out.count("twins") == 3
    (job,) = server.site.jobs.of("tone")
    assert str(server.folder) not in " ".join(job.command)  # nor a password of PostgreSQL


def test_what_was_left_out_can_be_asked_all_the_same(server: Served, tone: Any, lead: Browser):
    choose(server, lead, strategy="diversity", screen="yes", sample_back="0")
    item = tone.items(state="dropped")[0].id
    lead.get("/projects/tone/screened")
    lead.send(f"/projects/tone/items/{item}", {"state": "open"})
    assert tone.item(item).state == "open"
    assert lead.get("/projects/tone/screened").text.count("twins") == 2


def test_the_random_arms_share_is_a_setting_and_no_new_rubric(
    server: Served, tone: Any, lead: Browser
):
    choose(server, lead, strategy="random")
    assert tone.rubric_version == 1
    choose(server, lead, strategy="random", random_share="35")
    assert (tone.rubric_version, tone.settings.random_share) == (1, 0.35)


def test_too_few_judgements_are_told(server: Served, lead: Browser):
    server.project(items=12)
    page = choose(server, lead, strategy="disagreement", count="5")
    assert "Only 0 items have been judged" in page
    assert "By chance: 5 items come first" in page


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"strategy": "oracle"}, "are not chosen by"),
        ({"strategy": "random", "random_share": "much"}, "is not a number"),
        ({"strategy": "random", "random_share": "120"}, "give 0 to 100"),
    ],
)
def test_a_wrong_form_starts_nothing(
    server: Served, lead: Browser, form: dict[str, str], said: str
):
    server.project(items=2)
    lead.get("/projects/tone/asking")
    page = lead.send("/projects/tone/asking", {"random_share": "20", **form})
    assert page.status_code == 400
    assert said in page.text
    assert server.site.jobs.of("tone") == []


def test_kinds_without_pairs_of_texts_have_fewer_ways():
    assert set(ask_command.offered("compare")) == set(ask_command.STRATEGIES)
    assert ask_command.offered("rate") == ["random", "diversity"]
    assert ask_command.offered("clips") == ["random"]


def test_only_leads_choose(server: Served):
    project, person = server.project(items=2), server.person("Grace")
    project.enrol(person, role="adjudicator")
    browser = server.as_person(person)
    browser.get("/me")
    assert browser.send("/projects/tone/asking", {"strategy": "random"}).status_code == 403
    assert browser.get("/projects/tone/screened").status_code == 403


def test_the_gain_of_choosing_is_drawn_with_its_numbers(server: Served, lead: Browser):
    """Enough labels of both arms; who judges prefers kind words."""
    project = server.project(items=0, raters_per_item=1, random_share=0.4)
    rng = np.random.default_rng(1)
    project.add_items([pair(n, rng) for n in range(160)])
    ids = [row.id for row in project.items(limit=200)]
    project.prioritise(dict.fromkeys(ids[:80], 0.0), origin="random")
    project.prioritise(dict.fromkeys(ids[80:], 0.5), origin="active")
    person = server.person("Alan")
    project.enrol(person)
    while shown := project.next(person):
        kind = [sum(a["text"].count(w) for w in WORDS[:3]) for a in shown[0].payload["answers"]]
        project.answer(person, shown[0].item_id, {"choice": "ab"[kind[1] > kind[0]]})
    lead.get("/projects/tone/statistics")
    wait_for_jobs(server)
    page = lead.get("/projects/tone/statistics").text
    assert "What active queries gained" in page
    assert "Difference, points" in page
    assert "pairs of the random arm that neither had seen" in page


# ---- reward models that estimate


def judged_by(tmp_path: Path, *seeds: int) -> list[str]:
    """Random reward models on disk, where a training on the page would leave them."""
    return [reward_model(tmp_path / f"run{seed}", seed=seed) for seed in seeds]


def test_an_ensemble_of_reward_models_puts_first_what_they_disagree_on(
    server: Served, tone: Any, tmp_path: Path
):
    """Christiano et al. (2017), 2.2.4: the largest variance of the members' preferences."""
    models = judged_by(tmp_path, 1, 2, 3)
    waiting = [row for row in tone.items(limit=200) if row.given == 0]
    records = [ask_command.comparison(row.payload) for row in waiting]
    p = torch.sigmoid(log_odds(models, records)).var(0, correction=0)
    spread = dict(zip([row.id for row in waiting], p.tolist(), strict=True))
    done = ask_command.ask(tone, {"strategy": "disagreement", "count": 5, "judges": models})
    first = [row.id for row in tone.items(limit=200) if row.origin == "active"]
    drawn = dict(zip(spread, uniform(tone.id, np.array([*spread])), strict=True))
    free = sorted((i for i in spread if drawn[i] >= 0.2), key=lambda item: -spread[item])
    assert done.active == 5
    assert set(first) == set(free[:5])


def test_a_sure_judge_screens(server: Served, tone: Any, tmp_path: Path):
    models = judged_by(tmp_path, 1)
    screen = {"alike": None, "broken": False, "sure": 0.6, "sample_back": 0.0}
    asked = {"strategy": "information", "count": 5, "judges": models, "screen": screen}
    found = ask_command.ask(tone, asked).screened
    assert set(found) <= {"judge sure of a", "judge sure of b"}
    assert sum(met for met, _ in found.values()) == len(tone.items(state="dropped", limit=200))
    assert found


def test_words_that_are_no_words_are_not_judged(server: Served, tmp_path: Path):
    project = server.project(items=3)
    blank = {
        "prompt": [{"role": "user", "content": "?"}],
        "answers": [{"text": "x"}, {"text": " "}],
    }
    judge = ask_command.jury(judged_by(tmp_path, 1))
    odds = judge([blank, *(row.payload for row in project.items())])
    assert odds.shape == (1, 4)
    assert odds[0, 0] == 0
    assert all(odds[0, 1:] != 0)


def test_reward_models_of_the_page_may_estimate(
    server: Served, tone: Any, lead: Browser, tmp_path: Path
):
    jobs = server.site.jobs
    for name in judged_by(tmp_path, 1, 2):
        jobs.start("tone", training.TITLE, [sys.executable, "-c", ""], name)
    wait_for_jobs(server)
    assert "All 2 reward models, as an ensemble" in lead.get("/projects/tone/asking").text
    page = choose(server, lead, strategy="disagreement", judge="every")
    assert "2 reward models estimated, as an ensemble." in page
    assert '<option value="every" selected>' in page
    page = choose(server, lead, strategy="information", judge="run1")
    assert "One reward model estimated." in page
    lead.get("/projects/tone/asking")
    form = {"random_share": "20", "strategy": "information", "judge": "../run1"}
    assert "There is no reward model" in lead.send("/projects/tone/asking", form).text


def test_only_pairs_are_read_by_reward_models(server: Served, tmp_path: Path):
    project = server.project("thumbs", kind="thumbs", items=0)
    with pytest.raises(UserError, match="only the kind compare"):
        ask_command.ask(project, {"strategy": "diversity", "judges": ["x"]})


def test_a_round_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = open_store(tmp_path / "f.sqlite")
    project = store.create("tone", {"kind": "compare"})
    project.add_items(pairs(20))
    store.close()
    place = str(tmp_path / "f.sqlite")
    ask_command.main([place, "tone", json.dumps({"count": 4, "screen": {}})])
    assert json.loads(capsys.readouterr().out)["active"] == 4
    with pytest.raises(SystemExit, match="'counts' is no setting"):
        ask_command.main([place, "tone", json.dumps({"counts": 4})])


def test_a_round_from_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = open_store(tmp_path / "f.sqlite")
    store.create("tone", {"kind": "compare"}).add_items(pairs(50))
    store.close()
    (model,) = judged_by(tmp_path, 1)
    words = ["collect", "tone", "--store", str(tmp_path / "f.sqlite")]
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--ask", "uncertainty", "--judge", model, "--count", "3"])
    said = " ".join(capsys.readouterr().out.split())
    assert not left.value.code
    assert "3 items come first" in said
    assert "One reward model estimated." in said
    with pytest.raises(SystemExit):
        cli.main([*words, "--ask", "oracle"])
    assert "not chosen by 'oracle'" in " ".join(capsys.readouterr().err.split())


def test_a_round_with_nothing_to_choose_from_says_so(tone: Any, server: Served, lead: Browser):
    tone.drop([item.id for item in tone.items(limit=500)])
    page = choose(server, lead, strategy="information")
    assert "Nothing waits to be judged, so nothing was chosen" in page
