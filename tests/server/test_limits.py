"""How often and how much one may send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backflip.server.base.limits import RateLimit
from tests.server.served import PASSWORD, running, served


def test_guessing_passwords_is_slowed_down(tmp_path):
    server = served(tmp_path, sign_ins_per_minute=1.0)
    server.person("Ada")
    browser = server.browser()
    browser.get("/sign-in")
    form = {"email": "ada@example.org", "password": "a wrong password"}
    codes = [browser.send("/sign-in", form).status_code for _ in range(4)]
    assert codes[0] == 401
    assert codes[-1] == 429


def test_a_whole_class_may_come_from_one_address(tmp_path: Path):
    """What is no guess is not counted: ten raters open a link, join and sign in within a minute."""
    server = served(tmp_path, sign_ins_per_minute=2.0)
    link = f"/invitation/{server.project().invite(uses=10)}"
    for n in range(10):
        browser = server.browser()
        browser.get(link)
        account = {"name": f"R{n}", "email": f"r{n}@example.org", "password": PASSWORD}
        assert browser.send(link, account).status_code == 200
        browser.get("/me")
        browser.send("/sign-out")
        browser.get("/sign-in")
        assert browser.send("/sign-in", account).status_code == 200


def test_guessing_links_and_filling_in_nonsense_is_slowed_down(tmp_path: Path):
    server = served(tmp_path, sign_ins_per_minute=1.0)
    guesses = [server.browser().get(f"/invitation/guess-{n}").status_code for n in range(5)]
    assert (guesses[0], guesses[-1]) == (404, 429)
    other = served(tmp_path / "other", sign_ins_per_minute=1.0)
    link = f"/invitation/{other.project().invite(uses=10)}"
    browser = other.browser()
    browser.get(link)
    nonsense = {"name": "R", "email": "nonsense", "password": PASSWORD}
    codes = [browser.send(link, nonsense).status_code for _ in range(5)]
    assert (codes[0], codes[-1]) == (400, 429)


def test_a_bucket_fills_again_with_time():
    now = [0.0]
    limit = RateLimit(6.0, burst=1.0, clock=lambda: now[0])
    assert [limit.wait("a") > 0 for _ in range(7)] == [False] * 6 + [True]
    assert limit.wait("b") == 0
    now[0] = 10.0  # six a minute: one every ten seconds
    assert limit.wait("a") == 0
    assert limit.wait("a") == pytest.approx(10.0)


def test_a_request_that_is_too_large_is_refused(tmp_path):
    small = served(tmp_path, body_bytes=1000, upload_bytes=2000)
    browser = small.as_person(small.person("Ada", admin=True))
    small.project()
    body = {"items": [{"payload": {"x": "y" * 2000}}]}
    assert browser.call("/api/v1/projects/tone/items", body).status_code == 413
    files = {"file": ("rows.jsonl", b"x" * 5000)}
    assert browser.send("/projects/tone/import", files=files).status_code == 413


def test_a_stranger_may_not_send_what_a_lead_may(tmp_path: Path):
    """A form is read to its end before anybody is asked who sends it."""
    small = served(tmp_path, body_bytes=1000, upload_bytes=20_000)
    small.project()
    lead = small.as_person(small.person("Ada", admin=True))
    nobody = small.browser()
    for path in ("/projects/tone/import", "/api/v1/projects/tone/import"):
        files = {"file": ("rows.jsonl", b"x" * 5000)}
        assert nobody.client.post(path, files=files).status_code == 413
        forged = {"Authorization": "Bearer nobody"}
        assert nobody.client.post(path, files=files, headers=forged).status_code == 413
    assert "malformed line" in lead.send("/projects/tone/import", files=files).text


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 100):
        yield b"y" * 100


def test_a_request_that_hides_its_length_is_refused_as_one_that_tells_it(tmp_path: Path):
    """In chunks no length is declared; the reading stops where the limit is."""
    small = served(tmp_path, body_bytes=1000, upload_bytes=2000)
    small.project()
    browser = small.as_person(small.person("Ada", admin=True))
    browser.get("/me")
    token = {"X-CSRF-Token": browser.token}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    parts = {"Content-Type": "multipart/form-data; boundary=x"}
    for path, headers in (
        ("/api/v1/projects/tone/items", {"Content-Type": "application/json", **token}),
        ("/api/v1/projects/tone/import", {**parts, **token}),
        ("/projects/tone/import", parts),
        ("/projects/tone/settings", form),
        ("/sign-in", form),
    ):
        answer = browser.client.post(path, content=chunks(5000), headers=headers)
        assert answer.request.headers["transfer-encoding"] == "chunked"
        assert answer.status_code == 413, path
        assert "send it in parts" in answer.text
    small_one = browser.client.post("/sign-in", content=chunks(500), headers=form)
    assert small_one.status_code == 403


def test_the_same_over_a_socket(tmp_path: Path):
    """A real connection: the answer comes although the sender never ends."""
    import socket

    with running(served(tmp_path, body_bytes=1000)) as base:
        host, port = base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as sender:
            sender.sendall(
                b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
            )
            sender.sendall(b"400\r\n" + b"y" * 0x400 + b"\r\n")
            assert sender.recv(1000).startswith(b"HTTP/1.1 413")
