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


# ---- who did it


def bodies(project: Any, kind: str) -> list[tuple[str | None, dict[str, Any]]]:
    return [(event.person, event.body) for event in project.events(kinds=[kind])]


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


# ---- admins of the server


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


# ---- forgotten passwords


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
