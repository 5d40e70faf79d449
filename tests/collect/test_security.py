"""Who gets in, who does not, and what every answer tells the browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backflip.collect.jobs import Job
from backflip.collect.limits import RateLimit
from backflip.collect.pages import inside
from backflip.data.errors import UserError
from tests.collect.served import PASSWORD, Served, running, served

LEAD_PAGES = ("", "/items", "/people", "/statistics", "/adjudicate", "/export", "/log", "/settings")


def test_nobody_sees_a_page_or_the_interface_without_signing_in(server: Served):
    server.project()
    browser = server.browser()
    for path in ("/", "/me", "/projects/tone", "/projects/tone/rate", "/projects/new"):
        answer = browser.get(path, follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")
    assert browser.call("/api/v1/projects").status_code == 401


def test_signing_in_needs_the_right_password(server: Served):
    server.person("Ada")
    browser = server.browser()
    browser.get("/sign-in")
    wrong = browser.send("/sign-in", {"email": "ada@example.org", "password": "something else"})
    assert wrong.status_code == 401
    assert "do not belong together" in wrong.text
    right = browser.send("/sign-in", {"email": "Ada@Example.org", "password": PASSWORD})
    assert right.url.path == "/"


def test_a_form_without_our_token_is_refused(server: Served):
    """Another site can make a browser send a form, but cannot know the token."""
    ada = server.person("Ada", admin=True)
    browser = server.as_person(ada)
    form = {"title": "Forged", "kind": "compare"}
    for token in ("", "0" * 64, server.as_person(ada).token[:-1]):
        answer = browser.client.post("/projects/new", data={**form, "csrf": token})
        assert answer.status_code == 403
    assert server.store.projects() == []


def test_a_fetch_without_our_token_is_refused(server: Served):
    ada = server.person("Ada", admin=True)
    server.project().enrol(ada)
    browser = server.as_person(ada)
    browser.token = "wrong"
    answer = browser.call("/api/v1/projects/tone/undo", {})
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf")


def test_a_token_of_another_session_does_not_count(server: Served):
    ada, grace = server.person("Ada", admin=True), server.person("Grace", admin=True)
    browser, other = server.as_person(ada), server.as_person(grace)
    browser.token = other.token
    assert browser.send("/projects/new", {"title": "x", "kind": "thumbs"}).status_code == 403


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


def test_cookies_are_out_of_reach_of_scripts_and_of_other_sites(server: Served):
    answer = server.browser().client.get("/sign-in")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie


def test_over_tls_cookies_stay_on_tls(tmp_path):
    answer = served(tmp_path, secure=True).browser().client.get("/sign-in")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "strict-transport-security" in answer.headers


def test_every_answer_forbids_inline_scripts_and_frames(server: Served):
    browser = server.browser()
    for path in ("/sign-in", "/nothing", "/static/rate.js", "/api/v1/me"):
        policy = browser.get(path).headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy


def test_no_page_holds_an_inline_script_style_or_handler(server: Served):
    """The policy would block them in silence, and the page would be broken."""
    import re

    ada = server.person("Ada", admin=True)
    project = server.project(rubric="# Be kind")
    project.enrol(ada, role="admin")
    browser = server.as_person(ada)
    paths = ["/", "/me", "/api", "/projects/new", "/projects/tone/rate", "/projects/tone/items/1"]
    for path in [*paths, *(f"/projects/tone{tab}" for tab in LEAD_PAGES)]:
        html = browser.get(path).text
        assert not re.search(r"<script(?![^>]*(src=|type=\"application/json\"))", html), path
        assert not re.search(r"<[^>]+\s(style|on\w+)=", html), path
        assert "http://" not in re.sub(r"http://(127\.0\.0\.1|www\.w3\.org)", "", html), path


def test_a_foreign_host_name_is_not_answered(server: Served):
    """A page of another site cannot reach a local server by a name that points here."""
    answer = server.browser().client.get("/sign-in", headers={"Host": "evil.example"})
    assert answer.status_code == 421


def test_strangers_learn_nothing_of_a_project(server: Served):
    server.project("secret-project")
    stranger = server.as_person(server.person("Eve"))
    texts = []
    for name in ("secret-project", "another-guess"):
        answer = stranger.get(f"/projects/{name}")
        assert answer.status_code == 404
        texts.append(answer.text.replace(name, "NAME"))
    assert texts[0] == texts[1]
    assert stranger.call("/api/v1/projects").json() == []
    assert "secret-project" not in stranger.get("/").text


@pytest.mark.parametrize("tab", LEAD_PAGES[1:])
def test_raters_see_no_page_of_the_lead(server: Served, tab: str):
    project, rater = server.project(), server.person("Ada")
    project.enrol(rater)
    assert server.as_person(rater).get(f"/projects/tone{tab}").status_code == 403


def test_raters_may_change_nothing(server: Served):
    project, rater = server.project(), server.person("Ada")
    project.enrol(rater)
    browser = server.as_person(rater)
    for path in ("/settings", "/import", "/invitations", "/train"):
        assert browser.send(f"/projects/tone{path}", {"role": "admin"}).status_code == 403
    for path, body, method in (
        ("/items", {"items": []}, "POST"),
        ("/invitations", {}, "POST"),
        ("/settings", {"kind": "compare"}, "PUT"),
        ("/jobs", {}, "POST"),
    ):
        assert browser.call(f"/api/v1/projects/tone{path}", body, method).status_code == 403


def test_a_token_opens_no_more_than_its_scopes(server: Served):
    project, lead = server.project(), server.person("Ada")
    project.enrol(lead, role="lead")
    token = server.store.people.token(lead, "reader", ["read"])
    client = server.browser().client
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/v1/projects/tone/events", headers=headers).status_code == 200
    refused = client.post("/api/v1/projects/tone/items", json={"items": []}, headers=headers)
    assert refused.status_code == 403
    assert "scope 'write'" in refused.json()["detail"]
    assert client.get("/api/v1/projects/tone/next", headers=headers).status_code == 403


def test_a_withdrawn_token_opens_nothing(server: Served):
    lead = server.person("Ada", admin=True)
    browser = server.as_person(lead)
    browser.get("/me")
    page = browser.send("/me/tokens", {"name": "robot", "scope": "read write"})
    token = page.text.split('id="token" value="')[1].split('"')[0]
    headers = {"Authorization": f"Bearer {token}"}
    client = server.browser().client
    assert client.get("/api/v1/me", headers=headers).status_code == 200
    key = server.store.people.tokens(lead)[0]["key"]
    browser.send(f"/me/tokens/{key}/withdraw")
    assert client.get("/api/v1/me", headers=headers).status_code == 401


def test_a_new_password_ends_all_other_sessions(server: Served):
    ada = server.person("Ada")
    here, elsewhere = server.as_person(ada), server.as_person(ada)
    here.get("/me")
    fresh = {"old": PASSWORD, "new": "quite another phrase"}
    assert here.send("/me/password", fresh).status_code == 200
    assert here.get("/me").url.path == "/me"
    assert elsewhere.get("/me").url.path == "/sign-in"


def test_guessing_passwords_is_slowed_down(tmp_path):
    server = served(tmp_path, sign_ins_per_minute=1.0)
    server.person("Ada")
    browser = server.browser()
    browser.get("/sign-in")
    form = {"email": "ada@example.org", "password": "a wrong password"}
    codes = [browser.send("/sign-in", form).status_code for _ in range(4)]
    assert codes[0] == 401
    assert codes[-1] == 429


def test_a_bucket_fills_again_with_time():
    now = [0.0]
    limit = RateLimit(6.0, burst=1.0, clock=lambda: now[0])
    assert [limit.wait("a") > 0 for _ in range(7)] == [False] * 6 + [True]
    assert limit.wait("b") == 0
    now[0] = 10.0  # six a minute: one every ten seconds
    assert limit.wait("a") == 0
    assert limit.wait("a") == pytest.approx(10.0)


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


def test_a_request_that_is_too_large_is_refused(tmp_path):
    small = served(tmp_path, body_bytes=1000, upload_bytes=2000)
    browser = small.as_person(small.person("Ada", admin=True))
    small.project()
    body = {"items": [{"payload": {"x": "y" * 2000}}]}
    assert browser.call("/api/v1/projects/tone/items", body).status_code == 413
    files = {"file": ("rows.jsonl", b"x" * 5000)}
    assert browser.send("/projects/tone/import", files=files).status_code == 413


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
    from backflip.collect.pages_account import door

    path = door(server.site, server.person("Ada", admin=True))
    assert server.browser().get(path).url.path == "/"
    assert server.browser().get(path).url.path == "/sign-in"


@pytest.mark.parametrize("name", ["../secrets", "..%2f..%2fetc%2fpasswd", "%2e%2e/x", "a\x00b"])
def test_clips_stay_within_their_folder(server: Served, name: str):
    project, rater = server.project(), server.person("Ada")
    project.enrol(rater)
    (server.folder / "files" / "secrets").parent.mkdir(parents=True, exist_ok=True)
    (server.folder / "files" / "media").mkdir()
    (server.folder / "files" / "secrets").write_text("x")
    answer = server.as_person(rater).get(f"/media/tone/{name.replace(chr(0), '%00')}")
    assert answer.status_code in (404, 422)


SQL = "'; DROP TABLE people; --"


def test_sql_in_every_field_is_only_text(server: Served):
    ada = server.person("Ada", admin=True)
    server.project().enrol(ada, role="admin")
    browser = server.as_person(ada)
    for path in ("/projects/tone/settings", "/projects/tone/people", "/projects/tone/items"):
        browser.get(path)
    browser.send("/projects/tone/invitations", {"role": SQL})
    browser.send(f"/projects/tone/people/{SQL}", {"role": "rater", "state": "active"})
    browser.send("/me/tokens", {"name": SQL, "scope": SQL})
    browser.get("/projects/tone/log", params={"kind": SQL})
    browser.get(f"/invitation/{SQL}")
    sent = {"item": 1, "value": {"choice": SQL}, "client_key": SQL}
    assert browser.call("/api/v1/projects/tone/answers", sent).status_code in (403, 422)
    assert server.store.people.get(ada).name == "Ada"


# ---- what leaves a trace


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


# ---- models of the server's own disk


def test_only_admins_train_from_a_folder_of_the_server(
    server: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "private").mkdir()
    monkeypatch.chdir(tmp_path)
    project, grace = server.project(), server.person("Grace")
    project.enrol(grace, role="lead")
    project.answer(grace, project.next(grace)[0].item_id, {"choice": "a", "strength": 1})
    started = list[list[str]]()

    def start(_name: str, _title: str, command: list[str], run: str = "") -> Any:
        started.append(command)
        return Job("x", "tone", "Reward model", tuple(command), run)

    monkeypatch.setattr(server.site.jobs, "start", start)
    lead = server.as_person(grace)
    lead.get("/projects/tone/export")
    for model in ("/etc/models", "~/model", "./x", "../x", "private", "a/b/c", "runs/x/model"):
        refused = lead.call("/api/v1/projects/tone/jobs", {"model": model})
        assert (refused.status_code, started) == (422, []), model
        assert "Only admins" in lead.send("/projects/tone/train", {"model": model}).text
    for model in ("smollm2", "HuggingFaceTB/SmolLM2-135M"):
        assert lead.call("/api/v1/projects/tone/jobs", {"model": model}).status_code == 202
    admin = server.as_person(server.person("Ada", admin=True))
    admin.get("/me")
    assert admin.call("/api/v1/projects/tone/jobs", {"model": "private"}).status_code == 202
    assert [
        f"model={name}" in " ".join(words)
        for name, words in zip(
            ("smollm2", "HuggingFaceTB/SmolLM2-135M", "private"), started, strict=True
        )
    ] == [True, True, True]
