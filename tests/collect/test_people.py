"""People of a project, as a lead meets them: invited, changed, removed, erased."""

from __future__ import annotations

from typing import Any

import pytest

from tests.collect.served import PASSWORD, Browser, Served


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


def test_nobody_makes_anybody_more_than_themselves(server: Served):
    project, person, rater = server.project(), server.person("Grace"), server.person("Alan")
    project.enrol(person, role="lead")
    project.enrol(rater)
    browser = server.as_person(person)
    browser.get("/projects/tone/people")
    assert browser.send("/projects/tone/invitations", {"role": "admin"}).status_code == 403
    named = server.store.people.get(rater).pseudonym
    form = {"role": "admin", "state": "active"}
    assert browser.send(f"/projects/tone/people/{named}", form).status_code == 403
    assert project.member(rater).role == "rater"


def test_the_lead_pauses_and_lets_in_again(server: Served, lead: Browser):
    project, rater = server.project(), server.person("Alan")
    project.enrol(rater)
    lead.get("/projects/tone/people")
    named = server.store.people.get(rater).pseudonym
    lead.send(f"/projects/tone/people/{named}", {"role": "rater", "state": "paused"})
    assert project.member(rater).state == "paused"
    lead.send(f"/projects/tone/people/{named}", {"role": "adjudicator", "state": "active"})
    assert (project.member(rater).state, project.member(rater).role) == ("active", "adjudicator")


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


def test_a_link_that_was_withdrawn_opens_nothing(server: Served, lead: Browser):
    project = server.project()
    secret = project.invite(role="lead")
    lead.get("/projects/tone/people")
    key = project.invitations()[0]["key"]
    lead.send(f"/projects/tone/invitations/{key}/withdraw")
    assert project.invitations() == []
    assert server.browser().get(f"/invitation/{secret}").status_code == 404


# ---- changing somebody


@pytest.fixture
def alan(server: Served) -> tuple[Any, int, str]:
    """A project with groups, and a nurse who rates in it: project, person, address of his page."""
    groups = {"expertise": ["nurse", "doctor"], "language": ["de", "en"]}
    project, rater = server.project(groups=groups), server.person("Alan")
    project.enrol(rater, groups={"expertise": "nurse"})
    return project, rater, f"/projects/tone/people/{server.store.people.get(rater).pseudonym}"


def test_the_lead_changes_role_and_expertise(alan: tuple[Any, int, str], lead: Browser):
    project, rater, path = alan
    page = lead.get(path).text
    assert '<option value="nurse" selected>' in page
    form = {"groups": "yes", "group-expertise": "doctor", "group-language": "de"}
    lead.send(path, {**form, "role": "adjudicator", "state": "active"})
    member = project.member(rater)
    assert member.groups == {"expertise": "doctor", "language": "de"}
    assert member.role == "adjudicator"
    assert "expertise: doctor, language: de" in lead.get("/projects/tone/people").text


def test_a_group_that_is_not_said_any_more_is_gone_and_an_unknown_one_is_refused(
    alan: tuple[Any, int, str], lead: Browser
):
    project, rater, path = alan
    lead.get(path)
    page = lead.send(path, {"groups": "yes", "group-expertise": "wizard"})
    assert page.status_code == 400
    assert "cannot be" in page.text
    assert project.member(rater).groups == {"expertise": "nurse"}
    lead.send(path, {"groups": "yes", "group-expertise": ""})
    assert project.member(rater).groups == {}


def test_who_is_removed_is_out_and_can_be_let_in_again(
    server: Served, alan: tuple[Any, int, str], lead: Browser
):
    project, rater, path = alan
    browser = server.as_person(rater)
    lead.get(path)
    assert "Their answers stay" in lead.send(path, {"state": "removed"}).text
    assert browser.get("/projects/tone/rate").status_code == 404
    assert project.member(rater).groups == {"expertise": "nurse"}
    assert "Removed (1)" in lead.get("/projects/tone/people").text
    lead.get(path)
    lead.send(path, {"role": "rater", "state": "active"})
    assert browser.get("/projects/tone/rate").status_code == 200


def test_a_lead_changes_their_own_groups_but_not_their_role(
    server: Served, alan: tuple[Any, int, str]
):
    project, person = alan[0], server.person("Grace")
    project.enrol(person, role="lead")
    browser = server.as_person(person)
    path = f"/projects/tone/people/{server.store.people.get(person).pseudonym}"
    page = browser.get(path).text
    assert "This is you" in page
    assert "Remove from the project" not in page
    browser.send(path, {"groups": "yes", "group-language": "en"})
    assert project.member(person).groups == {"language": "en"}
    refused = browser.send(path, {"state": "removed"})
    assert "another lead can" in refused.text
    assert project.member(person).state == "active"


def test_a_lead_does_not_see_the_page_of_somebody_above_them_or_elsewhere(
    server: Served, alan: tuple[Any, int, str], lead: Browser
):
    project, person, other = alan[0], server.person("Grace"), server.person("Kurt")
    project.enrol(person, role="lead")
    admin = server.person("Max")
    project.enrol(admin, role="admin")
    browser = server.as_person(person)
    for who, status in ((admin, 403), (other, 404)):
        path = f"/projects/tone/people/{server.store.people.get(who).pseudonym}"
        browser.get("/projects/tone/people")
        assert browser.get(path).status_code == status
        assert browser.send(path, {"state": "removed"}).status_code == status


def test_a_program_changes_groups(server: Served, alan: tuple[Any, int, str], lead: Browser):
    project, rater, path = alan
    lead.get("/me")
    changed = lead.call(f"/api/v1{path}", {"groups": {"language": "en"}}, "PATCH")
    assert changed.status_code == 200
    assert (project.member(rater).groups, project.member(rater).role) == (
        {"language": "en"},
        "rater",
    )
