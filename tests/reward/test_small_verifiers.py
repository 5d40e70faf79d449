"""Choices, times, patterns, JSON, tags and a service over HTTP, and parts of answers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backflip.data.records import Prompt, messages
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.choice import Choice
from backflip.reward.verifiers.exact import Exact
from backflip.reward.verifiers.format import Format
from backflip.reward.verifiers.http import HTTP
from backflip.reward.verifiers.json_schema import JSONSchema
from backflip.reward.verifiers.pool import Pool
from backflip.reward.verifiers.regular_expression import RegularExpression
from backflip.reward.verifiers.source import check_of
from backflip.reward.verifiers.times import Times

R, W, U = "correct", "incorrect", "unparsable"
OPTIONS = {"choices": ["a red fox", "a fox", "the Rhine", "42"]}


def said(verifier: Any, answer: str, reference: str = "", **info: Any) -> str:
    return verifier.verdict(answer, reference, "", info).outcome


# ---- multiple choice


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        *((right, R) for right in ("B", "b", "(B)", "B.", "**B**", r"\boxed{B}", "(b)")),
        *((right, R) for right in (r"$\boxed{\text{(B)}}$", "B) a fox", "B. a fox", "Option B")),
        ("The answer is B.", R),
        ("The correct answer is (B) a fox, as A is another animal.", R),
        ("I think that A is wrong. Answer: B", R),
        ("I would choose option B", R),
        ("First I thought the answer is A. No: the answer is B", R),
        ("A fox is an animal.\nB", R),
        ("Everything speaks for (B) here.", R),
        ("So it is a fox", R),
        (r"\boxed{a fox}", R),
        (r"The answer is A, so \boxed{B}", R),
        ("The answer is A.", W),
        ("C", W),
        ("It is the Rhine.", W),
        ("B is the correct answer.", R),
        ("(B) a fox is right.", R),
        ("Option B is correct. Option A is bad.", R),
        ("B is correct. A is not correct.", R),
        (r"\boxed{\textbf{(B)}\ 12}", R),
        (r"\boxed{\textbf{B}}", R),
        (r"\boxed{B: green}", R),
        (r"\boxed{\text{B. green}}", R),
        ("<think>A?</think><answer>B</answer>", R),
        (r"The answer is \(B\).", R),
        ("Therefore, option B.", R),
        ("C is the correct answer.", W),
        ("Option B is good. Option A is bad.", U),
        ("B or C is the correct answer.", U),
        ("The answer is B or maybe C.", U),
        (r"\boxed{A} or \boxed{B}", U),
        (r"\boxed{(A) or (B)}", U),
        ("Option C is wrong.", U),
        ("A or B", U),
        ("The answer is A or B", U),
        ("(A), (B) or (C) might be right", U),
        ("A fox is an animal.", R),
        ("I do not know", U),
        ("", U),
    ],
)
def test_the_letter_that_an_answer_names(answer: str, outcome: str):
    """Option A's text contains option B's: alone in the answer, "a fox" is B."""
    assert said(Choice(), answer, "B", **OPTIONS) == outcome


def test_keys_of_questions_come_in_several_forms():
    for key in ("B", "b", "(B)", "B.", r"\text{(B)}", "a fox"):
        assert said(Choice(), "B", key, **OPTIONS) == R
    assert said(Choice(), "B", "a horse", **OPTIONS) == "error"
    arc = {"choices": {"text": ["x", "y"], "label": ["A", "B"]}}
    assert said(Choice(), "It is y", "B", **arc) == R


# ---- times


@pytest.mark.parametrize(
    ("reference", "answer", "loose", "strict"),
    [
        ("12:30", "12:30", R, R),
        ("12:30", "12:45", W, W),
        ("15:05", "3:05 pm", R, R),
        ("15:05", "3:05 p.m.", R, R),
        ("15:05", "3:05", R, W),
        ("15:05", "3:05 am", W, W),
        ("9 am", "It leaves at 9:00 AM.", R, R),
        ("noon", r"\boxed{12:00}", R, R),
        ("midnight", "12 am", R, R),
        ("14:30", "14h30", R, R),
        ("9:05", "From 8:00 to 9:05:00", R, R),
        ("9:05", "９：05", R, R),
        ("9:05", "905", U, U),
        ("9:05", "25:00", U, U),
        ("9:05", "9:75", U, U),
        ("9:05", "later", U, U),
        ("soon", "9:05", "error", "error"),
    ],
)
def test_a_time_of_day(reference: str, answer: str, loose: str, strict: str):
    assert said(Times(), answer, reference) == loose
    assert said(Times(half="strict"), answer, reference) == strict


# ---- patterns


def test_a_pattern_is_matched_or_its_group_is_compared():
    assert said(RegularExpression(pattern=r"\d+"), "about 12") == R
    assert said(RegularExpression(pattern=r"\d+", whole=True), "about 12") == W
    how = RegularExpression(pattern=r"= (\w+)", case=False)
    assert [said(how, one, "X") for one in ("a = y, b = x", "b = x, a = y", "x")] == [R, W, U]
    votes = [how.final(one) for one in ("thus b = X", "so, a = y and b = x", "x")]
    assert votes == ["x", "x", None], "what is compared is what is voted for"
    assert RegularExpression(pattern=r"\d+").final("about  12") == "about 12"
    assert said(RegularExpression(), "the Rhine", "R[a-z]+e") == R
    assert said(RegularExpression(), "the Rhine", "(") == "error"
    asked = Prompt(messages(("user", "?")))
    assert not RegularExpression(pattern="x").lacks(asked)
    assert RegularExpression(pattern="(x)").lacks(asked) == "no reference answer"
    assert any("no pattern" in fault for fault in RegularExpression(pattern="(").faults("reward"))


def test_a_pattern_that_backtracks_for_ever_is_a_timeout():
    how, pool = RegularExpression(pattern=r"(?:a+)+b", seconds=0.5), Pool(1)
    verdicts = pool.make([check_of(how, "a" * 50, "", "", {}), check_of(how, "aab", "", "", {})])
    pool.close()
    assert [one.outcome for one in verdicts] == ["timeout", R]


# ---- JSON


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ('{"n": 1}', R),
        ('Here:\n```json\n{"n": 2}\n```\nDone.', R),
        ('```\n{"n": "x"}\n```\nbetter:\n```\n{"n": 2}\n```', R),
        ('{"n": "1"}', W),
        ("[]", W),
        ('{"n": 1', U),
        ('{"n": NaN}', U),
        ("n is 1", U),
        ("", U),
        ("[" * 100_000, U),
        ('{"n": ' + "9" * 5000 + "}", U),
    ],
)
def test_json_fits_a_schema(answer: str, outcome: str, tmp_path: Path):
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    for schema in (json.dumps(SCHEMA), str(tmp_path / "schema.json")):
        assert said(JSONSchema(schema=schema), answer) == outcome
    assert said(JSONSchema(), answer, schema=SCHEMA) == outcome
    assert said(JSONSchema(), answer, schema=json.dumps(SCHEMA)) == outcome


@pytest.mark.parametrize(
    ("schema", "problem"),
    [("none.json", "cannot be read"), ("{", "no JSON"), ('{"type": "tree"}', "no JSON Schema")],
)
def test_a_schema_that_is_none_is_refused(schema: str, problem: str):
    assert any(problem in fault for fault in JSONSchema(schema=schema).faults("reward"))


# ---- tags


@pytest.mark.parametrize(
    ("answer", "outcome", "share"),
    [
        ("<think>a</think> <answer>b</answer>", R, None),
        ("\n<think>\na\n</think>\n<answer>b</answer>\n", R, None),
        ("<think>a</think><answer>b</answer> and more", W, 0.8),
        ("<answer>b</answer><think>a</think>", W, 0.8),
        ("<think> </think><answer>b</answer>", W, 0.8),
        ("<think>a<think>b</think><answer>b</answer>", W, 0.6),
        ("<think>a</think>", W, 0.4),
        ("b", W, 0.0),
        ("", W, 0.0),
    ],
)
def test_tags_stand_once_and_in_order(answer: str, outcome: str, share: float | None):
    assert said(Format(), answer) == outcome
    verdict = Format(share=True).verdict(answer, "", "", {})
    assert verdict.score == (None if share is None else pytest.approx(share))


def test_a_tag_that_the_prompt_opens_is_not_asked_for():
    assert said(Format(opened=True), "a</think><answer>b</answer>") == R
    assert Format(opened=True, share=True).verdict("b", "", "", {}).score == 0.0


def test_a_part_of_an_answer_is_checked():
    assert said(Exact(within="answer"), "<answer>4</answer> <answer>5</answer> 6", "5") == R
    assert said(Exact(within="answer"), "5", "5") == U
    assert said(Exact(within="answer"), "<answer>5", "5") == U
    assert said(Exact(after="</think>"), "4 </think> or </think> 5", "5") == R
    assert said(Exact(after="</think>"), "5", "5") == U


# ---- a service


class Service(BaseHTTPRequestHandler):
    """Replies as the answer that it is sent says, after so many failures."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body | {"token": self.headers.get("Authorization")})
        before = sum(one["answer"] == body["answer"] for one in self.asked) - 1
        replies = json.loads(body["answer"])
        status, reply = replies[min(before, len(replies) - 1)]
        if status == 0:
            self.connection.close()
            return
        if reply == "late":
            threading.Event().wait(1.0)
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write((reply if isinstance(reply, str) else json.dumps(reply)).encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    handler = type("Handler", (Service,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # who asks goes away where a reply is late
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/check", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("replies", "verdict", "tries"),
    [
        ([(200, True)], Verdict("correct"), 1),
        ([(200, {"score": 0.25})], Verdict("scored", 0.25), 1),
        (
            [(200, {"outcome": "unparsable", "reason": "odd"})],
            Verdict("unparsable", None, "odd"),
            1,
        ),
        ([(503, ""), (429, ""), (200, False)], Verdict("incorrect"), 3),
        ([(0, ""), (200, 1)], Verdict("correct"), 2),
        ([(200, 0.0)], Verdict("incorrect"), 1),
        ([(200, {"score": 1.0, "reason": "ok"})], Verdict("correct", None, "ok"), 1),
        ([(200, {"score": 0.5, "outcome": "correct"})], Verdict("correct", 0.5), 1),
        ([(200, {"score": 0.5, "outcome": "scored"})], Verdict("scored", 0.5), 1),
        ([(200, {"score": 0.5, "outcome": "fine"})], "outcome is 'fine', none of correct", 1),
        ([(200, {"score": 7, "outcome": "correct"})], "no score from 0 to 1", 1),
        ([(500, "")], "replied with status 500", 3),
        ([(404, "")], "replied with status 404", 1),
        ([(200, "<html>")], "no JSON", 1),
        ([(200, {"score": 7})], "no score from 0 to 1", 1),
        ([(200, "NaN")], "no score from 0 to 1", 1),
        ([(200, "x" * 2_000_000)], "longer than a megabyte", 1),
    ],
)
def test_a_service_is_asked_and_asked_again(service, monkeypatch, replies, verdict, tries):
    url, asked = service
    monkeypatch.setattr("backflip.reward.verifiers.http.PAUSE", 0.0)
    found = HTTP(url=url, retries=2).check(json.dumps(replies), "4", "2 + 2?", {"level": 3})
    if isinstance(verdict, str):
        assert found.outcome == "error"
        assert verdict in found.reason
    else:
        assert found == verdict
    assert len(asked) == tries
    assert (asked[0]["reference"], asked[0]["prompt"], asked[0]["info"]) == (
        "4",
        "2 + 2?",
        {"level": 3},
    )


def test_a_service_that_does_not_reply_is_a_timeout_and_one_that_is_not_there_an_error(
    service, monkeypatch
):
    monkeypatch.setattr("backflip.reward.verifiers.http.PAUSE", 0.0)
    monkeypatch.setenv("MY_TOKEN", "secret")
    url, asked = service
    how = HTTP(url=url, retries=1, patience=0.2, token="MY_TOKEN")
    assert how.check(json.dumps([(200, "late")]), "", "", {}).outcome == "timeout"
    assert [one["token"] for one in asked] == ["Bearer secret"] * 2
    nobody = HTTP(url="http://127.0.0.1:9/", retries=0).check("a", "", "", {})
    assert nobody.outcome == "error"
    assert "cannot be reached" in nobody.reason


def test_a_share_that_a_service_states_beside_its_outcome_is_what_is_paid():
    how = HTTP(url="http://a/", correct=2.0, incorrect=-1.0, unparsable=-3.0)
    assert how.score(Verdict("correct", 0.5)) == 0.5
    assert how.score(Verdict("correct", 1.0)) == how.score(Verdict("correct")) == 2.0
    assert how.score(Verdict("unparsable", 0.0)) == how.score(Verdict("unparsable")) == -3.0
    assert how.score(Verdict("incorrect", 0.0)) == -1.0
    assert how.score(Verdict("error", 0.5)) is None


@pytest.mark.parametrize("head", [True, False], ids=["its head", "its body"])
def test_a_reply_that_drips_is_a_timeout_when_patience_ends(head: bool):
    stop = threading.Event()

    def drip(listening: socket.socket) -> None:
        talk, _ = listening.accept()
        talk.recv(4096)
        with contextlib.suppress(OSError):
            talk.sendall(b"HTTP/1.1 200 OK\r\n" + (b"X-A: " if head else b"\r\n "))
            while not stop.wait(0.05):
                talk.sendall(b" ")
        talk.close()
        stop.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        dripping = threading.Thread(target=drip, args=(listening,), daemon=True)
        dripping.start()
        how = HTTP(url=f"http://127.0.0.1:{listening.getsockname()[1]}/", retries=0, patience=0.3)
        before = set(threading.enumerate())
        found = how.check("a", "", "", {})
        assert not stop.is_set(), "the check is over while the reply still drips"
        assert found == Verdict("timeout", None, "no reply within 0.3 s")
        for thread in set(threading.enumerate()) - before:
            thread.join(10)
            assert not thread.is_alive(), "nobody goes on reading"
        stop.set()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "url is ''"),
        ({"url": "file:///etc/passwd"}, "give the address of a service"),
        ({"url": "http://a/", "token": "NO_SUCH_VARIABLE"}, "no such environment variable"),
        ({"url": "http://a/", "retries": -1}, "retries is -1"),
        ({"url": "http://a/", "patience": 0.0}, "patience is 0"),
    ],
)
def test_a_service_that_cannot_be_asked_is_refused(settings: dict[str, Any], problem: str):
    assert any(problem in fault for fault in HTTP(**settings).faults("reward"))
