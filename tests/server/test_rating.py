"""Judging through the interface that the rater's page uses."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.server.served import Browser, Served

API = "/api/v1/projects/tone"


@pytest.fixture
def rater(server: Served) -> Browser:
    project, person = server.project(), server.person("Ada")
    project.enrol(person)
    browser = server.as_person(person)
    browser.get("/me")
    return browser


def answer(browser: Browser, item: int, choice: str = "a", **more: object):
    value = {"choice": choice, "strength": 1}
    body = {"item": item, "value": value, "client_key": str(uuid.uuid4()), **more}
    return browser.call(f"{API}/answers", body)


def test_the_page_has_the_rubric_and_the_first_items_in_it(server: Served):
    project, person = server.project(rubric="Prefer the **kinder** one."), server.person("Ada")
    project.enrol(person)
    html = server.as_person(person).get("/projects/tone/rate").text
    assert "<strong>kinder</strong>" in html
    first = json.loads(html.split('id="first">')[1].split("</script>")[0])
    assert len(first["items"]) == 2
    assert first["items"][0]["answers"][0].startswith('<div class="said"')


def test_nothing_that_goes_to_a_rater_names_a_model_or_an_order(rater: Browser):
    page = rater.get("/projects/tone/rate").text
    said = rater.call(f"{API}/next?count=3").text + rater.call(f"{API}/next?html=true").text
    for secret in ("model-one", "model-two", "source", '"order"', "repeat"):
        assert secret not in said
        assert secret not in page.split('id="first">')[1]


def test_items_have_numbers_that_tell_a_rater_nothing(server: Served, rater: Browser):
    """Gold comes as a block: whoever saw items' own numbers could tell it."""
    project, other = server.store.project("tone"), server.person("Grace")
    project.enrol(other)
    own = {item.id for item in project.items()}
    mine = {one["item"] for one in rater.call(f"{API}/next?count=4").json()["items"]}
    theirs = server.as_person(other).call(f"{API}/next?count=4").json()["items"]
    assert len(mine) == 4
    assert not mine & (own | {one["item"] for one in theirs})
    page = rater.get("/projects/tone/rate").text.split('id="first">')[1]
    first = json.loads(page.split("</script>")[0])
    assert {one["item"] for one in first["items"]} <= mine
    assert answer(rater, min(own)).status_code == 403


def test_how_far_the_project_is_does_not_tell_gold(server: Served):
    """With one rater an item every answer would move it, but for those to gold."""
    project = server.project("count", items=40, raters_per_item=1)
    browser = server.rater(project, "Ada")
    api, told = "/api/v1/projects/count", list[dict[str, float]]()
    item = browser.call(f"{api}/next").json()["items"][0]["item"]
    for _ in range(12):
        said = browser.call(f"{api}/answers", {"item": item, "value": {"choice": "a"}}).json()
        told.append(said["progress"])
        item = said["items"][0]["item"]
    assert [one.pop("answered") for one in told] == list(range(1, 13))
    assert told == [{"share": n // 2 / 20} for n in range(1, 13)]


def test_the_next_item_comes_in_the_answers_own_response(rater: Browser):
    first, second = rater.call(f"{API}/next?count=2").json()["items"]
    said = answer(rater, first["item"], hold=[second["item"]]).json()
    assert len(said["items"]) == 1
    assert said["items"][0]["item"] not in (first["item"], second["item"])
    assert said["progress"]["answered"] == 0 or said["progress"]["answered"] == 1


def test_an_answer_that_arrives_twice_is_stored_once(server: Served, rater: Browser):
    """A lost connection, a double click, two tabs: the same key, the same acknowledgement."""
    item = rater.call(f"{API}/next").json()["items"][0]["item"]
    key = str(uuid.uuid4())
    body = {"item": item, "value": {"choice": "b", "strength": 2}, "client_key": key}
    first, again = (rater.call(f"{API}/answers", body).json() for _ in range(2))
    assert first["answer"] == again["answer"]
    assert again["again"]
    assert len(list(server.store.project("tone").answers())) == 1


def test_an_answer_is_kept_in_the_items_own_order(server: Served, rater: Browser):
    """Whoever wrote "First" must win, wherever it was displayed."""
    for _ in range(4):
        item = rater.call(f"{API}/next").json()["items"][0]
        shown = [one["text"] for one in item["payload"]["answers"]]
        side = "ab"[next(i for i, text in enumerate(shown) if text.startswith("First"))]
        assert answer(rater, item["item"], side).status_code == 200
    kept = list(server.store.project("tone").answers())
    assert [row.value["choice"] for row in kept] == ["a"] * 4


def test_undo_brings_the_item_back_and_takes_the_answer_away(server: Served, rater: Browser):
    before = rater.call(f"{API}/next").json()["items"][0]
    answer(rater, before["item"])
    back = rater.call(f"{API}/undo", {}).json()["items"][0]
    assert back["payload"] == before["payload"]
    assert list(server.store.project("tone").answers()) == []
    assert rater.call(f"{API}/undo", {}).status_code == 404


def test_a_skip_costs_nothing_and_brings_the_next_item(rater: Browser):
    item = rater.call(f"{API}/next").json()["items"][0]["item"]
    said = rater.call(f"{API}/skips", {"item": item, "reason": "not my subject"}).json()
    assert said["items"][0]["item"] != item
    assert said["progress"]["answered"] == 0


def test_flags_and_notes_reach_the_lead(server: Served, rater: Browser):
    lead = server.person("Grace")
    server.store.project("tone").enrol(lead, role="lead")
    item = rater.call(f"{API}/next").json()["items"][0]["item"]
    rater.call(f"{API}/flags", {"item": item, "reason": "holds an address <b>"})
    rater.call(f"{API}/notes", {"item": item, "text": "I was unsure"})
    (flagged,) = server.store.project("tone").flagged_items()
    page = server.as_person(lead).get(f"/projects/tone/items/{flagged.id}").text
    assert "holds an address &lt;b&gt;" in page
    assert "I was unsure" in page


@pytest.mark.parametrize("item", [0, 999, 2**61])
def test_a_forged_item_is_refused_and_logged(server: Served, rater: Browser, item: int):
    assert answer(rater, item).status_code == 403
    kinds = [event.kind for event in server.store.project("tone").events()]
    assert "refused" in kinds


def test_another_raters_item_is_refused(server: Served, rater: Browser):
    other = server.person("Grace")
    server.store.project("tone").enrol(other)
    item = server.as_person(other).call(f"{API}/next").json()["items"][0]["item"]
    assert answer(rater, item).status_code == 403


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"choice": "c"},
        {"choice": "a", "strength": 9},
        {"choice": "cannot_tell", "reason": ""},
        {"choice": "a", "strength": 1, "secret": 1},
        {"ranks": [0, 1]},
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_a_reason(rater: Browser, value: dict):
    item = rater.call(f"{API}/next").json()["items"][0]["item"]
    refused = rater.call(f"{API}/answers", {"item": item, "value": value})
    assert refused.status_code == 422
    assert len(refused.json()["detail"]) > 10


@pytest.mark.parametrize("body", [None, [], "x", {"item": "1; --"}, {"item": -1, "value": {}}])
def test_malformed_bodies_are_told_what_is_wrong(rater: Browser, body: object):
    answered = rater.client.post(f"{API}/answers", json=body, headers={"X-CSRF-Token": rater.token})
    assert answered.status_code == 422
    assert isinstance(answered.json()["detail"], str)


def test_answers_are_limited_in_number_and_told_when_to_go_on(tmp_path):
    from tests.server.served import served

    slow = served(tmp_path, answers_per_minute=4.0)
    project, person = slow.project(), slow.person("Ada")
    project.enrol(person)
    browser = slow.as_person(person)
    codes = [browser.call(f"{API}/next") for _ in range(14)]
    assert codes[-1].status_code == 429
    assert int(codes[-1].headers["retry-after"]) >= 1


def test_when_all_is_done_the_page_says_so(server: Served, rater: Browser):
    for _ in range(4):
        answer(rater, rater.call(f"{API}/next").json()["items"][0]["item"])
    page = rater.get("/projects/tone/rate")
    assert "Nothing left to do" in page.text
    assert "data-again" in page.text


def test_who_is_paused_sees_why_and_gets_nothing(server: Served, rater: Browser):
    project = server.store.project("tone")
    person = server.store.people.everybody()[0].id
    project.set_state(person, "paused", reason="gold")
    page = rater.get("/projects/tone/rate").text
    assert "You are paused" in page
    assert "known to be right" in page
    assert rater.call(f"{API}/next").json()["items"] == []


def test_the_quiz_tells_what_was_wanted_and_opens_the_project(server: Served):
    screening = {"questions": 2, "pass_mark": 0.5}
    project, person = server.project(items=2, screening=screening), server.person("Ada")
    gold = [{"choice": "a", "strength": 1}] * 2
    quiz = [
        {
            "prompt": [{"role": "user", "content": f"Quiz {i}"}],
            "answers": [{"text": "good"}, {"text": f"bad {i}"}],
        }
        for i in range(2)
    ]
    project.add_items(quiz, gold=gold, purpose="screening")
    project.enrol(person)
    browser = server.as_person(person)
    assert '"stage": "screening"' in browser.get("/projects/tone/rate").text
    seen = []
    for _ in range(2):
        item = browser.call(f"{API}/next").json()["items"][0]
        assert item["stage"] == "screening"
        side = "ab"[[a["text"] for a in item["payload"]["answers"]].index("good")]
        body = {"item": item["item"], "value": {"choice": side, "strength": 1}}
        seen.append(browser.call(f"{API}/answers?html=true", body).json())
    assert all(said["feedback"]["right"] for said in seen)
    assert "better" in seen[0]["feedback"]["expected"]
    assert "Passed" in seen[1]["notice"]
    assert seen[1]["items"][0]["stage"] == "work"


KINDS = {
    "rank": (
        {"prompt": "p", "answers": [{"text": "x"}, {"text": "y"}, {"text": "z"}]},
        {"ranks": [0, 1, None]},
    ),
    "rate": (
        {"prompt": "p", "answer": {"text": "x"}},
        {"ratings": {"helpful": 3, "honest": 7, "harmless": 1}},
    ),
    "thumbs": ({"prompt": "p", "answer": {"text": "x"}}, {"up": True}),
    "write": (
        {"prompt": "p", "draft": {"text": "x"}},
        {"text": "a better reply", "from_draft": True},
    ),
    "steps": ({"prompt": "p", "steps": ["one", "two"]}, {"labels": [1, -1]}),
    "spans": (
        {"prompt": "p", "answer": {"text": "a 🎭 b"}},
        {"spans": [{"start": 2, "end": 3, "label": "odd"}]},
    ),
    "clips": ({"clips": [{"url": "/a.mp4"}, {"url": "/b.mp4"}]}, {"choice": "a", "strength": 1}),
    "principles": ({"principle": "Be kind."}, {"vote": "agree"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_shown_and_answered(server: Served, kind: str):
    payload, value = KINDS[kind]
    payload = {
        k: [{"role": "user", "content": v}] if k == "prompt" else v for k, v in payload.items()
    }
    labels = ["odd"] if kind == "spans" else []
    project = server.project(kind=kind, items=0, span_labels=labels)
    project.add_items([payload])
    person = server.person("Ada")
    project.enrol(person, role="lead")
    browser = server.as_person(person)
    page = browser.get("/projects/tone/rate")
    assert f'"kind": "{kind}"' in page.text
    item = browser.call(f"{API}/next?html=true").json()["items"][0]
    said = browser.call(f"{API}/answers", {"item": item["item"], "value": value})
    assert said.status_code == 200, said.text
    assert browser.get(f"/projects/tone/items/{project.items()[0].id}").status_code == 200
    assert browser.get("/projects/tone/statistics").status_code == 200
