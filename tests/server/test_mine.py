"""A rater's own page: their answers as they gave them, their progress, and nothing of others."""

from __future__ import annotations

import re
from typing import Any

from tests.server.served import Browser, Served, pairs

PAGE = "/projects/tone/mine"
LEADS = (
    "/items", "/items/1", "/people", "/asking", "/screened", "/statistics", "/adjudicate",
    "/flagged", "/export", "/log", "/log.jsonl", "/settings", "/download?format=answers",
)  # fmt: skip


def judge(project: Any, person: int, count: int, value: dict[str, Any] | None = None) -> list[str]:
    """Answer some items; the prompts in order."""
    asked = list[str]()
    for _ in range(count):
        (shown,) = project.next(person)
        asked.append(shown.payload["prompt"][-1]["content"])
        project.answer(person, shown.item_id, value or {"choice": "a", "strength": 2}, seconds=30.0)
    return asked


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def seated(server: Served, project: Any, name: str) -> tuple[int, Browser]:
    person = server.person(name)
    project.enrol(person)
    return person, server.as_person(person)


def test_a_rater_sees_their_answers_as_they_gave_them_and_how_far_they_are(server: Served):
    project = server.project(items=6, raters_per_item=2)
    ada, hers = seated(server, project, "Ada")
    alan, his = seated(server, project, "Alan")
    asked = judge(project, ada, 4)
    judge(project, alan, 1, {"choice": "tie", "reason": "alan only"})
    page = hers.get(PAGE).text
    assert page.count('class="more mine"') == 4
    assert page.count("A much better") == 4  # the side as displayed to her, whatever the order kept
    order = [page.index(f">{prompt}<") for prompt in asked]
    assert order == sorted(order, reverse=True)  # the newest first
    seen = words(page)
    assert "Today 4" in seen
    assert "In all 4 answers, in 2 minutes" in seen
    assert "Left for you 2" in seen
    assert "alan only" not in page
    assert "a tie" not in page
    assert page.count("Undo takes this back") == 1
    other = words(his.get(PAGE).text)
    assert "In all 1 answer," in other
    assert "alan only" in other
    assert server.browser().get(PAGE, follow_redirects=False).status_code in (302, 303, 307)


def test_sources_gold_and_repetitions_stay_secret(server: Served):
    project = server.project(
        items=3,
        salt="the same in every run",
        raters_per_item=1,
        gold_share=0.5,
        repeat_share=0.4,
        repeat_gap=1,
    )
    gold = [
        {**pair, "prompt": [{"role": "user", "content": f"Gold {n}"}]}
        for n, pair in enumerate(pairs(4))
    ]
    project.add_items(gold, gold=[{"choice": "a"}] * 4, purpose="gold")
    ada, hers = seated(server, project, "Ada")
    for _ in range(20):
        found = project.next(ada)
        if not found:
            break
        page = hers.get(PAGE).text
        assert "model-one" not in page
        assert not re.search(
            r"\bgold\b|correct|repeat|right|wrong", words(page).replace("Gold", "")
        )
        assert f">{found[0].payload['prompt'][-1]['content']}<" not in page  # before them now
        project.answer(ada, found[0].item_id, {"choice": "b"})
    assert project.tallies(ada)["gold_seen"] > 0
    assert hers.get(f"{PAGE}?words=model-one").text.count('class="more mine"') == 0
    assert hers.get(f"{PAGE}?words=FIRST+answer").text.count('class="more mine"') > 0


def test_answers_are_searched_and_turned_over_page_by_page(server: Served):
    project = server.project(items=30, raters_per_item=1)
    ada, hers = seated(server, project, "Ada")
    judge(project, ada, 30)
    first = hers.get(PAGE).text
    (older,) = re.findall(r'href="(\?[^"]*before=[^"]*)"', first)
    second = hers.get(f"{PAGE}{older.replace('&amp;', '&')}").text
    counts = [page.count('class="more mine"') for page in (first, second)]
    assert counts == [25, 5]
    found = hers.get(f"{PAGE}?words=question+29").text
    assert found.count('class="more mine"') == 1
    assert "Nothing fits" in hers.get(f"{PAGE}?words=nowhere").text
    assert "Everything is done" in first


def test_an_answer_that_had_its_feedback_or_of_who_is_paused_cannot_be_taken_back(server: Served):
    project = server.project(items=4, raters_per_item=1, calibration=True)
    project.add_items([pairs(9)[8]], gold=[{"choice": "a"}], purpose="calibration")
    ada, hers = seated(server, project, "Ada")
    judge(project, ada, 1)
    assert "Undo takes this back" not in hers.get(PAGE).text
    judge(project, ada, 1)
    assert "Undo takes this back" in hers.get(PAGE).text
    project.set_state(ada, "paused", reason="by the lead")
    page = hers.get(PAGE).text
    assert "Undo takes this back" not in page
    assert "You are paused" in page


def test_raters_open_no_page_of_the_lead_and_none_of_another_rater(server: Served):
    project = server.project(items=2)
    _, hers = seated(server, project, "Ada")
    alan, _ = seated(server, project, "Alan")
    pseudonym = server.store.people.get(alan).pseudonym
    for path in (*LEADS, f"/people/{pseudonym}"):
        assert hers.get(f"/projects/tone{path}").status_code == 403, path
    for path in ("/answers", "/items", "/statistics", "/export?format=answers&file=csv", "/people"):
        assert hers.get(f"/api/v1/projects/tone{path}").status_code in (403, 404), path
    page = hers.get(f"{PAGE}?person={alan}&pseudonym={pseudonym}").text
    assert "Nothing yet" in page
    server.project("other", items=1)
    assert hers.get("/projects/other/mine").status_code == 404
