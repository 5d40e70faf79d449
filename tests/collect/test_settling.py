"""What the lead settles: flagged items, content warnings, and projects that are put away."""

from __future__ import annotations

from typing import Any

import pytest

from backflip.collect.pages_account import door
from tests.collect.chrome import chromium, press, visitor
from tests.collect.served import Browser, Served, running


@pytest.fixture
def flagged(server: Served) -> tuple[Any, int]:
    """A project of two pairs, one of which a rater has flagged; its number."""
    project, rater = server.project(items=2), server.person("Alan")
    project.enrol(rater)
    item = project.next(rater)[0].item_id
    project.flag(rater, item, reason="A <b>name</b> in it")
    project.note(rater, item, "line 3")
    return project, item


def test_flagged_items_are_listed_with_the_raters_words(flagged: tuple[Any, int], lead: Browser):
    page = lead.get("/projects/tone/flagged").text
    assert "A &lt;b&gt;name&lt;/b&gt; in it" in page
    assert "line 3" in page
    assert f"Item {flagged[1]}" in page
    assert 'Flagged<span class="count">1</span>' in page


@pytest.mark.parametrize(
    ("form", "state", "warning"),
    [
        ({"do": "keep"}, "open", ""),
        ({"do": "keep", "warning": "Names."}, "open", "Names."),
        ({"do": "drop", "reason": "personal data"}, "dropped", ""),
    ],
)
def test_each_is_settled(
    flagged: tuple[Any, int], lead: Browser, form: dict[str, str], state: str, warning: str
):
    project, item = flagged
    lead.get("/projects/tone/flagged")
    page = lead.send(f"/projects/tone/flagged/{item}", form).text
    assert "Settled." in page
    assert "Nothing is flagged" in page
    assert (project.item(item).state, project.item(item).warning) == (state, warning)
    (event,) = project.events(kinds=["flags settled"])
    assert event.person is not None
    assert event.body["reason"] == form.get("reason", "")


def test_what_cannot_be_settled_is_told_where_it_stands(flagged: tuple[Any, int], lead: Browser):
    project, item = flagged
    lead.get("/projects/tone/flagged")
    odd = lead.send(f"/projects/tone/flagged/{item}", {"do": "burn"})
    assert odd.status_code == 400
    assert "no way" in odd.text
    assert lead.send("/projects/tone/flagged/99", {"do": "keep"}).status_code == 404
    project.settle_flags(item, keep=True)
    again = lead.send(f"/projects/tone/flagged/{item}", {"do": "drop"})
    assert project.item(item).state == "open"
    assert again.status_code == 400


def test_flags_are_for_leads(server: Served, flagged: tuple[Any, int]):
    project, person = flagged[0], server.person("Grace")
    project.enrol(person, role="adjudicator")
    browser = server.as_person(person)
    assert browser.get("/projects/tone/flagged").status_code == 403
    assert "/flagged" not in browser.get("/projects/tone/adjudicate").text


def test_a_warning_of_one_item_reaches_the_rater_and_nobody_else(
    server: Served, flagged: tuple[Any, int], lead: Browser
):
    project, item = flagged
    lead.get(f"/projects/tone/items/{item}")
    page = lead.send(f"/projects/tone/items/{item}/warning", {"warning": "Blood."}).text
    assert "content warning" in page
    rater = server.person("Kurt")
    project.enrol(rater)
    browser = server.as_person(rater)
    browser.get("/me")
    found = browser.call("/api/v1/projects/tone/next?count=2&html=true").json()["items"]
    assert sorted(one["warning"] for one in found) == ["", "Blood."]


def test_an_items_own_warning_covers_it_alone(server: Served):
    project, person = server.project(items=2, scale=2, order="given"), server.person("Ada")
    project.enrol(person)
    project.warn(1, "Blood.")
    with running(server) as base, chromium() as browser:
        page = visitor(browser, [])
        page.goto(f"{base}{door(server.site, person)}?next=/projects/tone/rate")
        page.get_by_text("Blood.").wait_for()
        assert page.locator("#stage").evaluate("node => node.inert")
        assert page.get_by_text("Do not ask again").count() == 0
        press(page, "1")
        page.get_by_role("button", name="Show it").click()
        press(page, "1")
        page.get_by_text("Question 1").wait_for()
        assert page.locator("#cover").count() == 0
        page.locator("#status[data-state=saved]").wait_for()
        assert len(list(project.answers())) == 1


# ---- put away


def test_a_project_is_put_away_and_brought_back(server: Served, lead: Browser):
    project, rater = server.project(items=2), server.person("Alan")
    project.enrol(rater)
    lead.get("/projects/tone/settings")
    page = lead.send("/projects/tone/settings/archive", {"archived": "yes"}).text
    assert "put away" in page
    assert project.archived
    home = lead.get("/").text
    assert "Put away (1)" in home
    assert "/projects/tone/settings" in home
    browser = server.as_person(rater)
    assert "The project is archived" in browser.get("/projects/tone/rate").text
    assert "Put away" not in browser.get("/").text
    lead.get("/projects/tone/settings")
    lead.send("/projects/tone/settings/archive", {"archived": "no"})
    assert "Question" in browser.get("/projects/tone/rate").text


def test_a_lead_finds_what_was_put_away_and_an_adjudicator_does_not(server: Served):
    project = server.project(items=1)
    project.archive()
    for name, role, sees in (("Grace", "lead", True), ("Kurt", "adjudicator", False)):
        person = server.person(name)
        project.enrol(person, role=role)
        assert ("Put away (1)" in server.as_person(person).get("/").text) == sees
