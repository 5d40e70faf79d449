"""People of a project, as a lead meets them: changed, paused, removed, and who did it."""

from __future__ import annotations

from typing import Any

from tests.server.served import Browser, Served, bodies


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


def test_programs_and_pages_know_the_same_rules(server: Served, alan: tuple[Any, int, str]):
    """Nobody locks themselves out, on the page or through the interface."""
    project, person = alan[0], server.person("Grace")
    project.enrol(person, role="lead")
    browser = server.as_person(person)
    path = f"/api/v1/projects/tone/people/{server.store.people.get(person).pseudonym}"
    browser.get("/me")
    for wish in ({"state": "removed"}, {"role": "rater"}):
        refused = browser.call(path, wish, "PATCH")
        assert refused.status_code == 409
        assert "another lead can" in refused.json()["detail"]
    assert (project.member(person).state, project.member(person).role) == ("active", "lead")


def test_the_log_says_who_changed_a_member(
    server: Served, alan: tuple[Any, int, str], lead: Browser
):
    project, rater, path = alan
    ada = server.store.people.by_email("ada@example.org").pseudonym
    his = server.store.people.get(rater).pseudonym
    lead.get(path)
    lead.send(path, {"role": "adjudicator", "state": "paused", "reason": "holidays"})
    lead.call(f"/api/v1{path}", {"state": "removed", "reason": "gone"}, "PATCH")
    who, told = bodies(project, "joined")[-1]
    assert (who, told["role"], told["by"]) == (his, "adjudicator", ada)
    assert bodies(project, "state") == [
        (his, {"state": "paused", "reason": "holidays", "by": ada}),
        (his, {"state": "removed", "reason": "gone", "by": ada}),
    ]
