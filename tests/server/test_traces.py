"""What was forged or refused leaves a trace, without secrets and on one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.served import Served, served


def test_every_forged_number_leaves_a_trace_in_the_log(server: Served):
    project, rater = server.project(), server.person("Ada")
    browser = server.rater(project, "Alan")
    project.enrol(rater)
    theirs = project.next(rater)[0].item_id
    forged = project.member(server.store.people.by_email("alan@example.org").id).alias(theirs)
    sent = {
        "answers": {"value": {"choice": "a", "strength": 1}},
        "skips": {"reason": "x"},
        "flags": {"reason": "x"},
        "notes": {"text": "x"},
    }
    for path, body in sent.items():
        refused = browser.call(f"/api/v1/projects/tone/{path}", {"item": forged, **body})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_yours"), path
    alan = server.store.people.by_email("alan@example.org").pseudonym
    traces = [(e.person, e.body) for e in project.events(kinds=["refused"])]
    assert traces == [(alan, {"asked_for": str(theirs)})] * 4


def test_a_forged_talk_leaves_a_trace_too(server: Served):
    project = server.project("chat", kind="talk")
    browser = server.rater(project, "Alan")
    turns = [{"role": "user", "content": "Hello"}]
    for path, body in (("talk", {"turns": turns}), ("answers", {"value": {"turns": turns}})):
        refused = browser.call(f"/api/v1/projects/chat/{path}", {"item": 12345, **body})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_yours"), path
    assert len(project.events(kinds=["refused"])) == 2


def test_what_was_refused_stands_in_the_servers_log_without_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    server = served(tmp_path, body_bytes=1000)
    server.person("Ada")
    secret = server.project().invite()
    browser = server.browser()
    browser.get("/sign-in")
    browser.send("/sign-in", {"email": "ada@example.org", "password": "a wrong pass phrase"})
    browser.send("/sign-in", {"csrf": "forged"})
    browser.send(f"/invitation/{secret}", {"csrf": "forged"})
    browser.get("/invitation/a-guessed-one")
    browser.get("/password/a-guessed-one")
    browser.get("/open/a-guessed-one")
    browser.send("/sign-in", {"email": "x" * 2000})
    lines = [record.getMessage() for record in caplog.records if record.name == "backflip.refused"]
    assert lines == [
        "refused (wrong password): POST '/sign-in' from testclient",
        "refused (not from a page of ours): POST '/sign-in' from testclient",
        "refused (not from a page of ours): POST '/invitation/…' from testclient",
        "refused (no such invitation): GET '/invitation/…' from testclient",
        "refused (no such link to a password): GET '/password/…' from testclient",
        "refused (no such link of the terminal): GET '/open/…' from testclient",
        "refused (too large): POST '/sign-in' from testclient",
    ]


def test_a_line_of_the_log_is_one_line(server: Served, caplog: pytest.LogCaptureFixture):
    server.browser().send("/projects/x%0aforged%20line/people/y", {"csrf": "x"})
    browser = server.as_person(server.person("Ada", admin=True))
    browser.send("/projects/new%0arefused/import", {"csrf": "x"})
    browser.client.post("/me/tokens/a%0ab/withdraw", data={"csrf": "x"})
    lines = [record.getMessage() for record in caplog.records if record.name == "backflip.refused"]
    assert lines
    assert not any("\n" in line for line in lines)
