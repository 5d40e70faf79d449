"""Who gets in, who does not, and what every answer tells the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backflip.server.base.jobs import Job
from tests.server.served import Served, png, served

LEAD_PAGES = ("", "/items", "/people", "/statistics", "/adjudicate", "/export", "/log", "/settings")


def test_nobody_sees_a_page_or_the_interface_without_signing_in(server: Served):
    server.project()
    browser = server.browser()
    for path in ("/", "/me", "/projects/tone", "/projects/tone/rate", "/projects/new"):
        answer = browser.get(path, follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")
    assert browser.call("/api/v1/projects").status_code == 401


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


# ---- tokens


def with_token(server: Served, person: int, *scopes: str) -> Any:
    """A program's client, with nothing but a token of these scopes."""
    browser = server.browser()
    token = server.store.people.token(person, "robot", list(scopes))
    browser.client.headers["Authorization"] = f"Bearer {token}"
    return browser


def test_a_token_opens_no_page(server: Served):
    """Pages ask for no scope, and one of them makes tokens of every scope."""
    ada = server.person("Ada", admin=True)
    server.project().enrol(ada, role="admin")
    robot = with_token(server, ada, "rate")
    assert robot.call("/api/v1/projects/tone/next").status_code == 200
    for path in ("/", "/me", "/me/data.json", "/projects/tone/log.jsonl", "/projects/tone/people"):
        assert robot.get(path).url.path == "/sign-in", path
    made = robot.send("/me/tokens", {"name": "more", "scope": "rate read write"})
    assert made.url.path == "/sign-in"
    assert len(server.store.people.tokens(ada)) == 1


def test_a_hosts_name_does_not_make_a_page_part_of_the_interface(tmp_path: Path):
    """A URL made of a wild Host header could begin with /api/; the path that is served does not."""
    server = served(tmp_path, hosts=())
    robot = with_token(server, server.person("Ada", admin=True), "rate")
    answer = robot.get("/me", headers={"Host": "x/api/?"}, follow_redirects=False)
    assert answer.headers["location"].startswith("/sign-in")


def test_a_token_shows_the_clips_of_its_owners_projects(server: Served):
    ada = server.person("Ada")
    server.project("walk", kind="clips").enrol(ada)
    folder = server.site.media.root("walk")
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(png())
    assert with_token(server, ada, "rate").get("/media/walk/a.png").content == png()


def test_a_token_of_the_proxys_own_changes_nothing(tmp_path: Path):
    """Some proxies pass on the token of their own sign-in, beside the address."""
    server = served(tmp_path, proxy_secret="s" * 20)
    server.person("Ada")
    headers = {
        "X-Backflip-Proxy": "s" * 20,
        "X-Forwarded-Email": "ada@example.org",
        "Authorization": "Bearer eyJhbGciOi",
    }
    client = server.browser().client
    assert client.get("/me", headers=headers).url.path == "/me"
    assert client.get("/api/v1/me", headers=headers).status_code == 200
    assert client.get("/api/v1/me", headers={"Authorization": "Bearer eyJ"}).status_code == 200
    assert (
        server.browser()
        .client.get("/api/v1/me", headers={"Authorization": "Bearer eyJ"})
        .status_code
        == 401
    )
