"""Talking with a model of this machine: a tiny one, made on the spot, that says nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backflip.feedback.projects.project import Project
from backflip.server.api.rate import ABSENT
from backflip.server.base import talking
from tests.recipes.tiny import tiny_model
from tests.server.served import Browser, Served, served

API = "/api/v1/projects/chat"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def talk(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Served, Project, Browser]]:
    """Two policies in one folder, of short breath; and somebody with a talk before them."""
    monkeypatch.setattr(talking, "MOST_TOKENS", 24)
    made = served(tmp_path, endpoints=(("one", str(model)), ("other", str(model))))
    project = made.project("chat", kind="talk", items=0)
    opening = [{"role": "system", "content": "You are a guide."}]
    project.add_items([{"policies": ["one", "other"], "role": "user", "opening": opening}])
    browser = made.rater(project, "Ada")
    yield made, project, browser
    made.store.close()


def offer(browser: Browser, item: int, turns: list[dict[str, Any]]) -> dict[str, Any]:
    said = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    answered = browser.call(f"{API}/talk", {"item": item, "turns": said})
    assert answered.status_code == 200, answered.text
    return answered.json()


def picked(offered: dict[str, Any], place: int) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": offered["candidates"][place],
        "candidates": offered["candidates"],
        "picked": place,
        "stamp": offered["stamp"],
    }


def test_a_talk_of_two_turns_is_kept_with_all_that_was_offered(
    talk: tuple[Served, Project, Browser],
):
    made, project, browser = talk
    item = browser.call(f"{API}/next").json()["items"][0]["item"]
    turns: list[dict[str, Any]] = [{"role": "user", "content": "Hello, who are you?"}]
    first = offer(browser, item, turns)
    assert len(first["candidates"]) == len(first["html"]) == 2
    assert all(text.strip() for text in first["candidates"])
    turns += [picked(first, 1), {"role": "user", "content": "And then?"}]
    second = offer(browser, item, turns)
    turns.append(picked(second, 0))
    sent = {"item": item, "value": {"turns": turns, "verdicts": {}}}
    answered = browser.call(f"{API}/answers", sent)
    assert answered.status_code == 200, answered.text
    (row,) = project.answers()
    kept = [turn for turn in row.value["turns"] if turn["role"] == "assistant"]
    for turn, offered, place in zip(kept, (first, second), (1, 0), strict=True):
        assert sorted(turn["candidates"]) == sorted(offered["candidates"])
        assert turn["candidates"][turn["picked"]] == turn["content"] == offered["candidates"][place]
    assert len(made.site.talkers._models) == 1  # one folder is loaded once


def test_the_model_hears_the_opening_and_all_turns_but_never_another_raters(
    talk: tuple[Served, Project, Browser],
):
    """After each reply the conversation is what this rater said, whoever spoke in between."""
    made, project, browser = talk
    guest = made.rater(project, "Grace")
    mine, theirs = (b.call(f"{API}/next").json()["items"][0]["item"] for b in (browser, guest))
    turns = [{"role": "user", "content": "Mine."}]
    turns.append(picked(offer(browser, mine, turns), 0))
    offer(guest, theirs, [{"role": "user", "content": "Theirs."}])
    offer(browser, mine, [*turns, {"role": "user", "content": "Again mine."}])
    (chat,) = made.site.talkers._models.values()
    heard = [message.content for message in chat.messages[:4]]
    assert heard == ["You are a guide.", "Mine.", turns[1]["content"], "Again mine."]


def test_a_folder_without_a_model_is_said_in_plain_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Where the model should be, and so what it is called, stands in the log alone."""
    made = served(tmp_path, endpoints=(("one", str(tmp_path / "empty")),))
    (tmp_path / "empty").mkdir()
    project = made.project("chat", kind="talk", items=0)
    project.add_items([{"policies": ["one"], "role": "user"}])
    browser = made.rater(project, "Ada")
    item = browser.call(f"{API}/next").json()["items"][0]["item"]
    turns = [{"role": "user", "content": "Hello?"}]
    refused = browser.call(f"{API}/talk", {"item": item, "turns": turns})
    assert refused.status_code == 422
    assert refused.json()["detail"] == ABSENT
    assert f"{tmp_path / 'empty'}" in caplog.text
