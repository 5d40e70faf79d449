"""Talking with policies, which stand behind OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backflip.server.api.rate import ABSENT
from tests.server.served import Browser, Served, served

API = "/api/v1/projects/chat"


@pytest.fixture
def talk(tmp_path, address: str) -> Iterator[tuple[Served, Browser]]:
    """A server with two policies, and somebody with one talk before them."""
    places = (("quiet-7b", f"{address}#calm"), ("loud-7b", f"{address}/v1#loud"))
    made = served(tmp_path, endpoints=places)
    project = made.project("chat", kind="talk", items=0)
    project.add_items(
        [{"policies": ["quiet-7b", "loud-7b"], "role": "attacker", "rules": ["Stay calm."]}]
    )
    browser = made.rater(project, "Ada")
    yield made, browser
    made.store.close()


def start(browser: Browser) -> tuple[int, dict[str, Any]]:
    item = browser.call(f"{API}/next").json()["items"][0]["item"]
    turns = [{"role": "user", "content": "hello"}]
    return item, browser.call(f"{API}/talk", {"item": item, "turns": turns}).json()


def turn(offer: dict[str, Any], picked: int, **more: Any) -> list[dict[str, Any]]:
    mine = {"role": "user", "content": "hello"}
    reply = {
        "role": "assistant",
        "content": offer["candidates"][picked],
        "candidates": offer["candidates"],
        "picked": picked,
        "stamp": offer["stamp"],
        **more,
    }
    return [mine, reply]


def test_both_policies_answer_and_their_names_stay_hidden(talk: tuple[Served, Browser]):
    _, browser = talk
    _, offer = start(browser)
    assert sorted(offer["candidates"]) == ["HELLO", "You said: hello"]
    page = browser.get("/projects/chat/rate").text
    for name in ("quiet-7b", "loud-7b"):
        assert name not in page.split('id="first">')[1]


@pytest.mark.parametrize("wanted", ["HELLO", "You said: hello"])
def test_what_was_picked_is_kept_in_the_order_of_the_policies(
    talk: tuple[Served, Browser], wanted: str
):
    made, browser = talk
    item, offer = start(browser)
    turns = turn(offer, offer["candidates"].index(wanted))
    value = {"turns": turns, "verdicts": {"Stay calm.": "broken"}}
    assert browser.call(f"{API}/answers", {"item": item, "value": value}).status_code == 200
    (row,) = made.store.project("chat").answers()
    kept = row.value["turns"][1]
    assert kept["candidates"] == ["You said: hello", "HELLO"]
    assert kept["candidates"][kept["picked"]] == wanted
    assert "stamp" not in kept


def test_a_reply_that_no_policy_gave_is_refused(talk: tuple[Served, Browser]):
    made, browser = talk
    item, offer = start(browser)
    offer["candidates"][0] = "something rude"
    value = {"turns": turn(offer, 0), "verdicts": {"Stay calm.": "broken"}}
    refused = browser.call(f"{API}/answers", {"item": item, "value": value})
    assert refused.status_code == 422
    assert "none that the model gave" in refused.json()["detail"]
    assert list(made.store.project("chat").answers()) == []


def test_a_reply_stands_only_after_the_words_that_it_answered(talk: tuple[Served, Browser]):
    """Else one could ask a model to repeat something rude, and lay it in its mouth."""
    made, browser = talk
    item, offer = start(browser)
    mine, reply = turn(offer, 0)
    for before in ([{**mine, "content": "How are you?"}], [mine, mine], []):
        value = {"turns": [*before, reply], "verdicts": {"Stay calm.": "broken"}}
        refused = browser.call(f"{API}/answers", {"item": item, "value": value})
        assert "none that the model gave" in refused.json()["detail"]
    assert list(made.store.project("chat").answers()) == []


def test_later_replies_prove_the_earlier_ones(talk: tuple[Served, Browser]):
    """The second reply was to what the rater made of the first; another first one is refused."""
    made, browser = talk
    item, offer = start(browser)
    turns = [*turn(offer, 0, content="Better.", edited=True), {"role": "user", "content": "and?"}]
    said = [{"role": one["role"], "content": one["content"]} for one in turns]
    second = browser.call(f"{API}/talk", {"item": item, "turns": said}).json()
    reply = turn(second, 1)[1]
    for first, status in ((turn(offer, 0), 422), (turns[:2], 200)):
        value = {"turns": [*first, turns[2], reply], "verdicts": {"Stay calm.": "kept"}}
        sent = browser.call(f"{API}/answers", {"item": item, "value": value})
        assert sent.status_code == status
    (row,) = made.store.project("chat").answers()
    assert [one["content"] for one in row.value["turns"]][1:3] == ["Better.", "and?"]


@pytest.mark.parametrize(
    "change",
    [
        {"content": "something rude"},
        {"content": "something rude", "edited": "no"},
        {"picked": 0},
        {"picked": None},
        {"candidates": []},
        {"role": "user"},
    ],
)
def test_a_turn_that_is_not_the_reply_that_was_picked_is_refused(
    talk: tuple[Served, Browser], change: dict[str, Any]
):
    made, browser = talk
    item, offer = start(browser)
    mine, reply = turn(offer, 1)
    value = {"turns": [mine, reply | change], "verdicts": {"Stay calm.": "broken"}}
    refused = browser.call(f"{API}/answers", {"item": item, "value": value})
    assert refused.status_code == 422
    assert "a reply in it is" in refused.json()["detail"]
    assert list(made.store.project("chat").answers()) == []


def test_an_edited_reply_keeps_what_the_models_had_said(talk: tuple[Served, Browser]):
    made, browser = talk
    item, offer = start(browser)
    value: dict[str, Any] = {"turns": turn(offer, 1, content="Hello to you, too.", edited=True)}
    value["verdicts"] = {"Stay calm.": "kept"}
    browser.call(f"{API}/answers", {"item": item, "value": value})
    (row,) = made.store.project("chat").answers()
    assert row.value["turns"][1]["content"] == "Hello to you, too."
    assert row.value["turns"][1]["candidates"] == ["You said: hello", "HELLO"]


def test_only_policies_that_the_operator_named_are_asked(tmp_path, address: str):
    """Which these are is for the lead to know: a rater must not know who speaks."""
    made = served(tmp_path)
    project = made.project("chat", kind="talk", items=0)
    project.add_items([{"policies": [address], "role": "user"}])
    browser = made.rater(project, "Ada")
    item = browser.call(f"{API}/next").json()["items"][0]["item"]
    turns = [{"role": "user", "content": "hello"}]
    refused = browser.call(f"{API}/talk", {"item": item, "turns": turns})
    assert refused.status_code == 422
    assert refused.json()["detail"] == ABSENT
    lead = made.person("Grace")
    project.enrol(lead, role="lead")
    browser = made.as_person(lead)
    browser.get("/me")
    item = browser.call(f"{API}/next").json()["items"][0]["item"]
    refused = browser.call(f"{API}/talk", {"item": item, "turns": turns})
    assert "knows no policy" in refused.json()["detail"]


def test_a_model_that_does_not_answer_is_said_in_plain_words(tmp_path):
    made = served(tmp_path, endpoints=(("calm", "http://127.0.0.1:9"),))
    project = made.project("chat", kind="talk", items=0)
    project.add_items([{"policies": ["calm"], "role": "user"}])
    browser = made.rater(project, "Ada")
    item, refused = start(browser)
    assert refused["code"] == "busy"
    other = browser.call(f"{API}/talk", {"item": item + 1, "turns": []})
    assert other.status_code == 403


def test_a_lead_is_told_of_policies_that_the_server_cannot_ask(talk: tuple[Served, Browser]):
    server, _ = talk
    lead = server.as_person(server.person("Grace", admin=True))
    assert "--policy" not in lead.get("/projects/chat").text
    server.store.project("chat").add_items([{"policies": ["quiet-7b", "new"], "role": "user"}])
    assert "--policy new=MODEL: items talk with it" in lead.get("/projects/chat").text
