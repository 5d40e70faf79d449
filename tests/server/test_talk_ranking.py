"""Ranking the replies of a talk: kept in the order of the policies, exported, and done by keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backflip.feedback.exchange.exports import export
from backflip.server.base.talking import order_of
from backflip.server.pages.account import door
from tests.server.chrome import chromium, press, visitor
from tests.server.served import Browser, Served, running, served
from tests.server.test_talk import API, start, turn

SAID = {"quiet": "You said: hello", "loud": "HELLO", "curt": "hello."}


@pytest.fixture
def three(tmp_path: Path, address: str) -> Iterator[tuple[Served, int]]:
    """A server with three policies, and a rater with one talk to begin."""
    places = tuple((name, f"{address}#{name}") for name in SAID)
    made = served(tmp_path, endpoints=places)
    project = made.project("chat", kind="talk", items=0)
    project.add_items([{"policies": list(SAID), "role": "user"}])
    person = made.person("Ada")
    project.enrol(person)
    yield made, person
    made.site.jobs.close()
    made.store.close()


def rank(browser: Browser, wanted: dict[str, int], **more: Any) -> Any:
    """Answer a talk of one turn, with a rank for each text."""
    item, offer = start(browser)
    assert sorted(offer["candidates"]) == sorted(SAID.values())
    ranks = [wanted[text] for text in offer["candidates"]]
    turns = turn(offer, ranks.index(0), ranks=ranks, **more)
    return browser.call(f"{API}/answers", {"item": item, "value": {"turns": turns}})


@pytest.mark.parametrize("best", list(SAID))
def test_ranks_are_kept_in_the_order_of_the_policies(three: tuple[Served, int], best: str):
    made, person = three
    browser = made.as_person(person)
    browser.get("/me")
    wanted = {text: int(name != best) for name, text in SAID.items()}
    assert rank(browser, wanted).status_code == 200
    (row,) = made.store.project("chat").answers()
    kept = row.value["turns"][1]
    assert kept["candidates"] == list(SAID.values())
    assert kept["ranks"] == [int(name != best) for name in SAID]
    assert kept["candidates"][kept["picked"]] == SAID[best] == kept["content"]


def test_a_ranking_is_exported_as_one_and_as_pairs(three: tuple[Served, int], tmp_path: Path):
    made, person = three
    browser = made.as_person(person)
    browser.get("/me")
    rank(browser, {SAID["curt"]: 0, SAID["loud"]: 1, SAID["quiet"]: 2})
    project = made.store.project("chat")
    export(project, "rankings", tmp_path / "r.jsonl")
    (row,) = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    texts = [answer[0]["content"] for answer in row["completions"]]
    ranks = dict(zip(texts, row["rank"], strict=True))
    assert ranks == {"hello.": 0, "HELLO": 1, "You said: hello": 2}
    assert row["provenance"]["sources"] == list(SAID)
    export(project, "preference", tmp_path / "p.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    pairs = {(r["chosen"][-1]["content"], r["rejected"][-1]["content"]) for r in rows}
    assert pairs == {
        ("hello.", "HELLO"),
        ("hello.", "You said: hello"),
        ("HELLO", "You said: hello"),
    }


def test_an_edited_reply_stands_above_the_ranking(three: tuple[Served, int], tmp_path: Path):
    made, person = three
    browser = made.as_person(person)
    browser.get("/me")
    wanted = {SAID["curt"]: 0, SAID["loud"]: 1, SAID["quiet"]: 1}
    assert rank(browser, wanted, content="Hello!", edited=True).status_code == 200
    export(made.store.project("chat"), "rankings", tmp_path / "r.jsonl")
    row = json.loads((tmp_path / "r.jsonl").read_text())
    texts = [answer[0]["content"] for answer in row["completions"]]
    ranks = dict(zip(texts, row["rank"], strict=True))
    assert ranks == {"Hello!": 0, "hello.": 1, "HELLO": 2, "You said: hello": 2}


@pytest.mark.parametrize("ranks", [[0, 1], [0, 2, 3], [0, None, 1], "012"])
def test_ranks_that_do_not_fit_are_refused(three: tuple[Served, int], ranks: Any):
    made, person = three
    browser = made.as_person(person)
    browser.get("/me")
    item, offer = start(browser)
    sent = {"item": item, "value": {"turns": turn(offer, 0, ranks=ranks)}}
    assert browser.call(f"{API}/answers", sent).status_code == 422
    assert list(made.store.project("chat").answers()) == []


def test_a_policy_that_is_named_four_times_gives_four_replies(tmp_path: Path, address: str):
    made = served(tmp_path, endpoints=(("quiet", f"{address}#quiet"),))
    project = made.project("chat", kind="talk", items=0)
    project.add_items([{"policies": ["quiet"] * 4, "role": "user"}])
    browser = made.rater(project, "Ada")
    _, offer = start(browser)
    assert len(offer["candidates"]) == 4
    made.store.close()


def test_every_order_of_replies_comes_up():
    """Chance decides which policy stands first, the same for the same turn of the same rater."""
    seen = {tuple(order_of(3, ("salt", rater, 1, 1))) for rater in range(200)}
    assert len(seen) == 6
    assert order_of(3, ("salt", 1, 1, 1)) == order_of(3, ("salt", 1, 1, 1))


def test_a_rater_ranks_by_keys_and_picks_where_they_like(three: tuple[Served, int]):
    made, person = three
    faults: list[str] = []
    with running(made) as base, chromium() as browser:
        page = visitor(browser, faults)
        page.goto(f"{base}{door(made.site, person)}?next=/projects/chat/rate")
        page.get_by_label("Your message").fill("hello")
        page.keyboard.press("Enter")
        page.get_by_text("Best first:").wait_for()
        shown = [card.inner_text() for card in page.locator(".offer .answer .body").all()]
        for key in ("2", "1", "t"):
            press(page, key)
        assert page.locator(".offer .badge").all_inner_texts() == ["1 =", "1 =", ""]
        press(page, "Enter")
        page.get_by_label("Your message").fill("and now?")
        page.keyboard.press("Enter")
        page.get_by_text("Best first:").wait_for()
        press(page, "r")
        page.get_by_role("button", name="Go on with C").wait_for()
        second = [card.inner_text() for card in page.locator(".offer .answer .body").all()]
        press(page, "3")
        page.get_by_role("button", name="Finish").click()
        page.get_by_text("Nothing left to do").wait_for()
    assert faults == []
    (row,) = made.store.project("chat").answers()
    first, then = (one for one in row.value["turns"] if one["role"] == "assistant")
    places = dict(zip(first["candidates"], first["ranks"], strict=True))
    assert [places[text] for text in shown] == [0, 0, 1]
    assert first["content"] == shown[1]
    assert (then["content"], then["ranks"]) == (second[2], None)
