"""What the lead settles: flagged items, content warnings, and projects that are put away."""

from __future__ import annotations

from typing import Any

import pytest

from backflip.feedback.tasks.display import in_displayed_order
from backflip.server.pages.account import door
from tests.server.chrome import chromium, press, visitor
from tests.server.hall import values
from tests.server.served import Browser, Served, pairs, running


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
        assert len(values(project, 1)) == 1


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


# ---- disputes


def split(server: Served, items: int = 4, **settings: Any) -> Any:
    """A project with the usual settings whose two raters disagree on everything."""
    project = server.project(items=items, **settings)
    for name, choice in (("Alan", "a"), ("Kurt", "b")):
        person = server.person(name)
        project.enrol(person)
        while shown := project.next(person):
            value = in_displayed_order("compare", {"choice": choice, "strength": 1}, shown[0].order)
            project.answer(person, shown[0].item_id, value)
    return project


def test_splits_are_listed_without_a_setting(server: Served, lead: Browser):
    split(server)
    page = lead.get("/projects/tone/adjudicate").text
    assert "4 items on which raters are split" in page
    assert page.count('class="card dispute"') == 4
    assert "Nothing to settle" not in page


def test_an_empty_list_says_what_comes_to_it(server: Served, lead: Browser):
    project = server.project()
    assert "fewer than 51 % of its answers agree" in lead.get("/projects/tone/adjudicate").text
    project.configure({**project.settings.model_dump(mode="json"), "adjudicate_below": 0.0})
    assert "“Adjudicate below” is 0" in lead.get("/projects/tone/adjudicate").text


def test_the_ticked_items_are_sent_and_no_others(server: Served, lead: Browser):
    project = server.project(items=5)
    lead.get("/projects/tone/items")
    form = {"state": "adjudicate", "item-2": "yes", "item-4": "yes", "back": "/items?state=open"}
    page = lead.send("/projects/tone/items", form)
    assert "2 items were sent to the adjudicators." in page.text
    assert str(page.url).endswith("/projects/tone/items?state=open")
    assert [row.id for row in project.items(state="adjudicate")] == [2, 4]
    again = lead.send("/projects/tone/items", form | {"item-5": "yes"}).text
    assert "1 item was sent to the adjudicators; 2 were so already." in again
    lead.send("/projects/tone/items", {"state": "dropped", "item-1": "yes"})
    assert [row.id for row in project.items(state="dropped")] == [1]


def test_a_bulk_action_needs_ticks_a_lead_and_items_of_its_own_project(
    server: Served, lead: Browser
):
    project, other = server.project(items=1), server.store.create("other", {"kind": "compare"})
    other.add_items(pairs(1))
    foreign = other.items()[0].id
    lead.get("/projects/tone/items")
    none = lead.send("/projects/tone/items", {"state": "dropped"})
    assert "No item is ticked" in none.text
    lead.send("/projects/tone/items", {"state": "dropped", f"item-{foreign}": "yes"})
    assert (project.items()[0].state, other.items()[0].state) == ("open", "open")
    away = lead.send(
        "/projects/tone/items",
        {"state": "open", "item-1": "yes", "back": "//evil.org"},
        follow_redirects=False,
    )
    assert away.headers["location"] == "/projects/tone"
    grace = server.person("Grace")
    project.enrol(grace, role="adjudicator")
    browser = server.as_person(grace)
    browser.get("/projects/tone/adjudicate")
    assert browser.send("/projects/tone/items", {"item-1": "yes"}).status_code == 403


TALK = [
    {"role": role, "content": f"{role} says {number}. " + "They explain it at some length. " * 30}
    for number, role in enumerate(["user", "assistant"] * 6)
] + [{"role": "user", "content": "And now?"}]


def test_the_same_letter_is_the_same_answer_wherever_a_dispute_is_seen(server: Served):
    """On the list, on the item's page and where it is judged; a long talk hides neither answer."""
    answers = [{"text": "Red."}, {"text": "Blue."}]
    project = server.project(items=0, scale=2)
    project.add_items([{"prompt": [*TALK[:-1], {**TALK[-1], "content": f"{n}?"}],
                        "answers": answers} for n in range(6)])  # fmt: skip
    for name, choice in (("Alan", "a"), ("Kurt", "b")):
        person = server.person(name)
        project.enrol(person)
        while shown := project.next(person):
            value = in_displayed_order("compare", {"choice": choice, "strength": 1}, shown[0].order)
            project.answer(person, shown[0].item_id, value)
    lead = server.person("Ada", admin=True)
    project.enrol(lead, role="lead")
    with running(server) as base, chromium() as browser:
        page = visitor(browser, faults := [])
        page.goto(f"{base}{door(server.site, lead)}?next=/projects/tone/adjudicate")
        dispute = page.locator(".dispute").first
        assert _answers(dispute) == ["A Red.", "B Blue."]
        _both_seen(page, dispute)
        for item in (1, 2):
            page.goto(f"{base}/projects/tone/items/{item}")
            assert _answers(page.locator(".peek")) == ["A Red.", "B Blue."]
            _both_seen(page, page.locator(".peek"))
        page.goto(f"{base}/projects/tone/rate?queue=adjudicate")
        for _ in range(5):  # by chance every second would be the other way round
            page.locator("#stage .answer").nth(1).wait_for()
            assert [said[-5:] for said in _answers(page.locator("#stage"))] == [" Red.", "Blue."]
            _both_seen(page, page.locator("#stage"))
            press(page, "1")
            page.locator("#status[data-state=saved]").wait_for()
        assert faults == []
    assert {row.value["choice"] for row in project.answers() if row.stage == "adjudicate"} == {"a"}


def _answers(place: Any) -> list[str]:
    return [" ".join(text.split()) for text in place.locator(".answer").all_inner_texts()]


def _both_seen(page: Any, place: Any) -> None:
    """Both answers lie within the window, above whatever covers its lower edge."""
    foot = page.locator(".foot")
    end = foot.bounding_box()["y"] if foot.count() else page.viewport_size["height"]
    for box in (one.bounding_box() for one in place.locator(".answer").all()):
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= end
