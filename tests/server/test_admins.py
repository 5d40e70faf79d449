"""Admins of the server, and the erasing of people."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.served import Browser, Served


def test_people_take_their_data_along_and_are_erased(server: Served):
    project, rater = server.project(), server.person("Alan")
    project.enrol(rater)
    shown = project.next(rater)[0]
    project.answer(rater, shown.item_id, {"choice": "a", "strength": 1})
    browser = server.as_person(rater)
    browser.get("/me")
    assert "alan@example.org" in browser.get("/me/data.json").text
    browser.get("/me")
    assert browser.send("/me/erase").url.path == "/sign-in"
    assert server.store.people.by_email("alan@example.org") is None
    assert len(list(project.answers())) == 1


def test_the_last_admin_cannot_be_erased(server: Served, lead: Browser):
    lead.get("/me")
    assert lead.send("/me/erase").status_code == 409


def test_an_admin_makes_another_who_may_then_erase_themselves_or_be_erased(
    server: Served, alan: tuple[Any, int, str], lead: Browser
):
    _, rater, path = alan
    ada = server.store.people.by_email("ada@example.org").pseudonym
    browser = server.as_person(rater)
    assert browser.get("/projects/new").status_code == 403
    assert "Make an admin" in lead.get(path).text
    lead.send(f"{path}/admin", {"admin": "yes"})
    assert browser.get("/projects/new").status_code == 200
    assert "server admin" in lead.get(path).text
    made = [event for event in server.store.events() if event.kind == "admin"]
    assert [event.body for event in made] == [{"admin": True, "by": ada}]
    lead.get("/me")
    assert lead.send("/me/erase").url.path == "/sign-in"


def test_one_admin_at_least_stays(server: Served, lead: Browser):
    ada = server.store.people.by_email("ada@example.org")
    refused = lead.call(f"/api/v1/people/{ada.pseudonym}", {"admin": False}, "PATCH")
    assert refused.status_code == 409
    assert server.store.people.get(ada.id).admin


def test_an_admin_of_old_loses_the_token_that_was_remembered(
    server: Served, alan: tuple[Any, int, str], lead: Browser
):
    rater, path = alan[1:]
    api = f"/api/v1/people/{path.rpartition('/')[2]}"
    token = server.store.people.token(rater, "robot", ["read", "write"])
    headers = {"Authorization": f"Bearer {token}"}
    client = server.browser().client
    assert lead.call(api, {"admin": True}, "PATCH").json()["admin"]
    assert client.get("/api/v1/me", headers=headers).json()["admin"]
    lead.call(api, {"admin": False}, "PATCH")
    assert not client.get("/api/v1/me", headers=headers).json()["admin"]


def test_only_admins_of_the_server_make_admins_and_erase(
    server: Served, alan: tuple[Any, int, str]
):
    """An admin of a project is none of the server."""
    project, rater, path = alan
    person = server.person("Grace")
    project.enrol(person, role="admin")
    browser = server.as_person(person)
    page = browser.get(path).text
    assert "Make an admin" not in page
    assert "Erase their own words" not in page
    api = f"/api/v1/people/{path.rpartition('/')[2]}"
    assert browser.send(f"{path}/admin", {"admin": "yes"}).status_code == 403
    assert browser.send(f"{path}/erase").status_code == 403
    assert browser.call(api, {"admin": True}, "PATCH").status_code == 403
    assert browser.call(api, method="DELETE").status_code == 403
    assert server.store.people.get(rater).name == "Alan"


@pytest.mark.parametrize("texts", [False, True])
def test_an_admin_erases_somebody_who_asks_for_it(
    server: Served, alan: tuple[Any, int, str], lead: Browser, texts: bool
):
    project, rater, path = alan
    project.note(rater, project.next(rater)[0].item_id, "my own words")
    browser = server.as_person(rater)
    assert "cannot be undone" in lead.get(path).text
    page = lead.send(f"{path}/erase", {"texts": "yes"} if texts else {})
    assert "Their name and address are erased" in page.text
    assert browser.get("/me").url.path == "/sign-in"
    person = server.store.people.get(rater)
    assert (person.erased, person.name, person.email) == (True, "", "")
    words = project.events(kinds=["note"])[0].body["text"]
    assert words == ("[redacted]" if texts else "my own words")
    (event,) = [one for one in server.store.events() if one.kind == "redaction"]
    ada = server.store.people.by_email("ada@example.org").pseudonym
    assert event.body == {"texts": texts, "by": ada}
    assert "Make an admin" not in lead.get(path).text


def test_a_program_erases_people_but_not_its_own_person(
    server: Served, alan: tuple[Any, int, str], lead: Browser
):
    rater, path = alan[1:]
    ada = server.store.people.by_email("ada@example.org").pseudonym
    assert lead.call(f"/api/v1/people/{ada}", method="DELETE").status_code == 409
    assert lead.call("/api/v1/people/r-none", method="DELETE").status_code == 404
    api = f"/api/v1/people/{path.rpartition('/')[2]}?texts=true"
    assert lead.call(api, method="DELETE").json()["erased"]
    assert server.store.people.get(rater).erased
