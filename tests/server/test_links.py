"""Links by mail: an invitation, and a password that was forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.served import PASSWORD, Browser, Served, bodies


def test_an_invitation_lets_somebody_in_once(server: Served, lead: Browser):
    server.project()
    lead.get("/projects/tone/people")
    page = lead.send("/projects/tone/invitations", {"role": "rater", "uses": "1", "days": "1"})
    path = page.text.split('id="link" value="http://127.0.0.1')[1].split('"')[0]
    guest = server.browser()
    guest.get(path)
    form = {"name": "Grace", "email": "grace@example.org", "password": PASSWORD}
    assert guest.send(path, form).url.path == "/projects/tone/rate"
    assert server.browser().get(path).status_code == 404


def test_a_weak_password_or_a_taken_address_is_told_on_the_page(server: Served):
    project = server.project()
    server.person("Ada")
    path = f"/invitation/{project.invite(uses=3)}"
    guest = server.browser()
    guest.get(path)
    form = {"name": "G", "email": "g@example.org", "password": "short"}
    assert "use at least" in guest.send(path, form).text
    taken = {"name": "A", "email": "ada@example.org", "password": PASSWORD}
    assert "is here already" in guest.send(path, taken).text


def test_a_guessed_invitation_opens_nothing(server: Served):
    server.project().invite()
    assert server.browser().get("/invitation/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").status_code == 404


def test_a_link_that_was_withdrawn_opens_nothing(server: Served, lead: Browser):
    project = server.project()
    secret = project.invite(role="lead")
    lead.get("/projects/tone/people")
    key = project.invitations()[0]["key"]
    lead.send(f"/projects/tone/invitations/{key}/withdraw")
    assert project.invitations() == []
    assert server.browser().get(f"/invitation/{secret}").status_code == 404


def test_the_log_says_who_invited_whom_and_who_withdrew_a_link(server: Served, lead: Browser):
    project = server.project()
    ada = server.store.people.by_email("ada@example.org").pseudonym
    lead.get("/projects/tone/people")
    lead.send("/projects/tone/invitations", {"role": "rater", "uses": "2"})
    secret = lead.call("/api/v1/projects/tone/invitations", {"role": "rater"}).json()["path"]
    invited = bodies(project, "invitation")
    assert [who for who, _ in invited] == [ada, ada]
    server.store.accept(secret.rpartition("/")[2], server.person("Alan"))
    assert bodies(project, "joined")[-1][1]["invitation"] == invited[1][1]["id"]
    key = project.invitations()[0]["key"]
    lead.get("/projects/tone/people")
    lead.send(f"/projects/tone/invitations/{key}/withdraw")
    assert bodies(project, "invitation withdrawn") == [(ada, {"id": key})]
    assert "invitation withdrawn" in lead.get("/projects/tone/log").text


def link_on(page: Any) -> str:
    return page.text.split('id="link" value="http://127.0.0.1')[1].split('"')[0]


def test_a_link_sets_a_new_password_once_and_ends_all_sessions(
    server: Served, alan: tuple[Any, int, str]
):
    project, rater, path = alan
    lead = server.as_person(server.person("Grace"))
    project.enrol(server.store.people.by_email("grace@example.org").id, role="lead")
    before = server.as_person(rater)
    assert before.get("/me").url.path == "/me"
    lead.get(path)
    link = link_on(lead.send(f"{path}/password"))
    guest = server.browser()
    assert "alan@example.org" in guest.get(link).text
    assert "use at least" in guest.send(link, {"new": "short"}).text
    assert guest.send(link, {"new": "quite another phrase"}).url.path == "/"
    assert guest.get("/me").url.path == "/me"
    assert before.get("/me").url.path == "/sign-in"
    people = server.store.people
    assert people.sign_in("alan@example.org", PASSWORD) is None
    assert people.sign_in("alan@example.org", "quite another phrase").id == rater
    again = server.browser()
    assert again.get(link).status_code == 404
    assert again.send(link, {"new": "a third phrase altogether"}).status_code in (403, 404)
    kinds = [event.kind for event in server.store.events() if event.person == path[-6:]]
    assert kinds[-2:] == ["password link", "password"]


def test_two_who_open_the_same_link_set_one_password(
    server: Served, alan: tuple[Any, int, str], lead: Browser
):
    link = lead.call(f"/api/v1{alan[2]}/password", {}).json()["path"]
    first, second = server.browser(), server.browser()
    first.get(link)
    second.get(link)
    first.send(link, {"new": "quite another phrase"})
    assert second.send(link, {"new": "a third phrase altogether"}).status_code == 404
    assert server.store.people.sign_in("alan@example.org", "quite another phrase")


def test_a_forged_or_old_link_sets_no_password(
    server: Served, alan: tuple[Any, int, str], lead: Browser, monkeypatch: pytest.MonkeyPatch
):
    import itsdangerous.timed

    link = lead.call(f"/api/v1{alan[2]}/password", {}).json()["path"]
    assert server.browser().get("/password/WzEsMF0.x.y").status_code == 404
    assert server.browser().get(f"{link[:-1]}é").status_code == 404
    ahead = itsdangerous.timed.time.time() + 4 * 86_400
    monkeypatch.setattr(itsdangerous.timed.time, "time", lambda: ahead)
    assert server.browser().get(link).status_code == 404


def test_a_lead_opens_no_account_that_is_more_than_their_own_project(
    server: Served, alan: tuple[Any, int, str], lead: Browser
):
    """A link to a new password is the account: its other projects, and its rank."""
    project, rater, path = alan
    other = server.project("other")
    grace = server.person("Grace")
    project.enrol(grace, role="lead")
    browser = server.as_person(grace)
    browser.get("/me")

    def asked(page: str) -> int:
        return browser.call(f"/api/v1{page}/password", {}).status_code

    assert asked(path) == 201
    other.enrol(rater)
    assert asked(path) == 403
    assert "Make a link" not in browser.get(path).text
    other.enrol(grace, role="lead")
    assert asked(path) == 201
    other.enrol(rater, role="lead")
    assert asked(path) == 403
    other.enrol(rater, role="rater")
    server.store.people.set_admin(rater, admin=True)
    assert asked(path) == 403
    assert lead.call(f"/api/v1{path}/password", {}).status_code == 201
    himself = f"/projects/tone/people/{server.store.people.get(grace).pseudonym}"
    assert asked(himself) == 403
