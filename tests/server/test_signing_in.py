"""Signing in: passwords, sessions, single sign-on, links of the terminal."""

from __future__ import annotations

import pytest

from backflip.errors import UserError
from backflip.server.pages.drawing import inside
from tests.server.served import PASSWORD, Served, served


def test_signing_in_needs_the_right_password(server: Served):
    server.person("Ada")
    browser = server.browser()
    browser.get("/sign-in")
    wrong = browser.send("/sign-in", {"email": "ada@example.org", "password": "something else"})
    assert wrong.status_code == 401
    assert "do not belong together" in wrong.text
    right = browser.send("/sign-in", {"email": "Ada@Example.org", "password": PASSWORD})
    assert right.url.path == "/"


def test_signing_in_changes_the_session_so_that_a_planted_cookie_is_worth_nothing(server: Served):
    server.person("Ada")
    browser = server.browser()
    browser.get("/sign-in")
    before = browser.client.cookies[server.site.sessions.cookie]
    browser.send("/sign-in", {"email": "ada@example.org", "password": PASSWORD})
    thief = server.browser()
    thief.client.cookies.set(server.site.sessions.cookie, before)
    assert thief.get("/me").url.path == "/sign-in"


def test_a_forged_cookie_is_nobody(server: Served):
    from itsdangerous import URLSafeTimedSerializer

    ada = server.person("Ada", admin=True)
    forged = URLSafeTimedSerializer("guess", salt="backflip session").dumps(
        {"n": "x", "p": ada, "e": 0}
    )
    browser = server.browser()
    browser.client.cookies.set(server.site.sessions.cookie, forged)
    assert browser.get("/me").url.path == "/sign-in"


def test_a_new_password_ends_all_other_sessions(server: Served):
    ada = server.person("Ada")
    here, elsewhere = server.as_person(ada), server.as_person(ada)
    here.get("/me")
    fresh = {"old": PASSWORD, "new": "quite another phrase"}
    assert here.send("/me/password", fresh).status_code == 200
    assert here.get("/me").url.path == "/me"
    assert elsewhere.get("/me").url.path == "/sign-in"


def test_single_sign_on_is_believed_only_with_the_shared_secret(tmp_path):
    secret = "a secret shared with the proxy"
    with_proxy = served(tmp_path, proxy_secret=secret)
    with_proxy.person("Ada", admin=True)
    client = with_proxy.browser().client
    name = {"X-Forwarded-Email": "ada@example.org"}
    assert client.get("/api/v1/me", headers=name).status_code == 401
    wrong = {**name, "X-Backflip-Proxy": "another secret entirely"}
    assert client.get("/api/v1/me", headers=wrong).status_code == 401
    assert client.get("/api/v1/me", headers={**name, "X-Backflip-Proxy": secret}).json()["admin"]


def test_without_a_proxy_its_header_means_nothing(server: Served):
    server.person("Ada", admin=True)
    headers = {"X-Forwarded-Email": "ada@example.org", "X-Backflip-Proxy": ""}
    assert server.browser().client.get("/api/v1/me", headers=headers).status_code == 401


def test_a_short_proxy_secret_is_refused(tmp_path):
    with pytest.raises(UserError, match="can be guessed"):
        served(tmp_path, proxy_secret="short")


@pytest.mark.parametrize(
    "address",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\nb"],
)
def test_after_signing_in_one_stays_on_this_server(address: str):
    assert inside(address) == "/"


def test_signing_in_leads_back_to_the_page_with_its_query(server: Served):
    """A session may end in the middle of the disputes."""
    project, person = server.project(), server.person("Ada")
    project.enrol(person, role="adjudicator")
    browser = server.browser()
    shown = browser.get("/projects/tone/rate?queue=adjudicate&x=%26%0a%22%3E")
    assert shown.url.path == "/sign-in"
    there = shown.url.params["next"]
    assert there == "/projects/tone/rate?queue=adjudicate&x=%26%0a%22%3E"
    form = {"email": "ada@example.org", "password": PASSWORD, "next": there}
    assert browser.send("/sign-in", form).url.params["queue"] == "adjudicate"


def test_a_link_of_the_terminal_works_once(server: Served):
    from backflip.server.pages.account import door

    path = door(server.site, server.person("Ada", admin=True))
    assert server.browser().get(path).url.path == "/"
    assert server.browser().get(path).url.path == "/sign-in"
