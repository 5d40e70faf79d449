"""Passwords, sessions and tokens over HTTP: what ends, what goes on, and who waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server.served import PASSWORD, Browser, Served, served

NEW = "quite another phrase"


def signed_in(server: Served, email: str = "ada@example.org", host: str = "testclient") -> Browser:
    browser = at(server, host)
    browser.get("/sign-in")
    assert browser.send("/sign-in", {"email": email, "password": PASSWORD}).url.path == "/"
    browser.get("/me")
    return browser


def at(server: Served, host: str) -> Browser:
    """A browser that comes from this address."""
    from fastapi.testclient import TestClient

    browser = server.browser()
    browser.client = TestClient(
        server.app,
        base_url="http://127.0.0.1",
        raise_server_exceptions=False,
        client=(host, 50_000),
    )
    return browser


def copied(server: Served, browser: Browser) -> Browser:
    """Another browser with the same cookie."""
    thief = server.browser()
    cookie = server.site.sessions.cookie
    thief.client.cookies.set(cookie, browser.client.cookies[cookie])
    return thief


def asked(server: Served, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return server.browser().client.get("/api/v1/me", headers=headers).status_code


def test_signing_out_ends_a_copied_cookie_and_no_other_session(server: Served):
    server.person("Ada")
    here, elsewhere = signed_in(server), signed_in(server)
    thief = copied(server, here)
    assert thief.get("/me").url.path == "/me"
    here.send("/sign-out")
    assert thief.get("/me").url.path == "/sign-in"
    assert thief.client.get("/api/v1/me").status_code == 401
    assert elsewhere.get("/me").url.path == "/me"


def test_a_session_that_was_ended_is_over_for_every_process_and_after_a_restart(tmp_path: Path):
    server = served(tmp_path)
    server.person("Ada")
    here = signed_in(server)
    other = served(tmp_path)
    thief = copied(other, here)
    assert thief.get("/me").url.path == "/me"
    here.send("/sign-out")
    assert thief.get("/me").url.path == "/sign-in"


def test_a_new_password_ends_sessions_and_tokens_and_lets_this_one_go_on(server: Served):
    ada, bob = server.person("Ada"), server.person("Bob")
    here, elsewhere = signed_in(server), signed_in(server)
    tokens = [server.store.people.token(person, "t", ["read"]) for person in (ada, bob)]
    assert [asked(server, token) for token in tokens] == [200, 200]
    thief = copied(server, here)
    page = here.send("/me/password", {"old": PASSWORD, "new": NEW})
    assert "tokens of programs are withdrawn" in page.text
    assert here.get("/me").url.path == "/me"
    assert elsewhere.get("/me").url.path == thief.get("/me").url.path == "/sign-in"
    assert [asked(server, token) for token in tokens] == [401, 200]
    assert server.store.people.tokens(ada) == []
    (event,) = [e for e in server.store.events() if e.kind == "password"]
    assert event.body == {"tokens withdrawn": 1}


def test_a_new_password_by_link_ends_tokens_too(server: Served):
    ada = server.person("Ada")
    token = server.store.people.token(ada, "t", ["read"])
    assert asked(server, token) == 200
    link = f"/password/{server.site.password_links.make(server.store.people.get(ada))}"
    browser = server.browser()
    browser.get(link)
    browser.send(link, {"new": NEW})
    assert asked(server, token) == 401


def test_guessing_does_not_lock_out_the_owner(server: Served):
    server.person("Ada")
    guesser = at(server, "203.0.113.9")
    guesser.get("/sign-in")
    form = {"email": "ada@example.org", "password": "a wrong password"}
    codes = [guesser.send("/sign-in", form).status_code for _ in range(8)]
    assert codes[0] == 401
    assert codes[-1] == 429
    late = guesser.send("/sign-in", {**form, "password": PASSWORD})
    assert late.status_code == 429, "not even with the right one, or guessing would go on"
    assert int(late.headers["Retry-After"]) >= 1
    assert "too many wrong passwords from here" in late.text.lower()
    signed_in(server, host="198.51.100.2")


def test_an_address_that_is_nobodys_is_slowed_down_as_a_known_one_is(server: Served):
    server.person("Ada")

    def codes(email: str, host: str) -> list[int]:
        browser = at(server, host)
        browser.get("/sign-in")
        form = {"email": email, "password": "a wrong password"}
        return [browser.send("/sign-in", form).status_code for _ in range(7)]

    known = codes("ada@example.org", "203.0.113.1")
    assert codes("nobody@example.org", "203.0.113.2") == known


def test_a_strangers_header_gives_them_no_other_address(server: Served):
    """X-Forwarded-For is a proxy's word: without one, anybody could write a new one each time."""
    server.person("Ada")
    browser = at(server, "203.0.113.9")
    browser.get("/sign-in")
    form = {"email": "ada@example.org", "password": "a wrong password"}
    answers = [
        browser.send("/sign-in", form, headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(8)
    ]
    assert answers[-1].status_code == 429


def test_guessing_at_a_session_left_open_does_not_slow_the_owner(server: Served):
    server.person("Ada")
    here = signed_in(server)
    wrong: dict[str, Any] = {"old": "a wrong password", "new": NEW}
    codes = [here.send("/me/password", wrong).status_code for _ in range(8)]
    assert codes[0] == 400
    assert codes[-1] == 429
    signed_in(server)
