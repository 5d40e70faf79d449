"""Choosing what is asked next, from a project's page to the priorities of its items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backflip.collect import choosing
from tests.collect.served import Browser, Served
from tests.collect.test_results import wait_for_jobs

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
    lead.get("/projects/tone")
    lead.send("/projects/tone/asking", {"random_share": "20", "count": "10", **form})
    wait_for_jobs(server)
    return lead.get("/projects/tone").text


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


def test_the_random_arms_share_is_a_setting_and_makes_a_version_only_where_it_changes(
    server: Served, tone: Any, lead: Browser
):
    choose(server, lead, strategy="random")
    assert tone.rubric_version == 1
    choose(server, lead, strategy="random", random_share="35")
    assert (tone.rubric_version, tone.settings.random_share) == (2, 0.35)


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
    lead.get("/projects/tone")
    page = lead.send("/projects/tone/asking", {"random_share": "20", **form})
    assert page.status_code == 400
    assert said in page.text
    assert server.site.jobs.of("tone") == []


def test_kinds_without_pairs_of_texts_have_fewer_ways():
    assert set(choosing.offered("compare")) == set(choosing.STRATEGIES)
    assert choosing.offered("rate") == ["random", "diversity"]
    assert choosing.offered("clips") == ["random"]


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
