"""What somebody typed and did not send is kept; times have zones, numbers their nouns."""

from __future__ import annotations

from typing import Any

import pytest

from backflip.server.base.templating import moment, took
from backflip.server.pages.account import door
from backflip.text import coefficient, lasting
from tests.server.chrome import press, visitor
from tests.server.hall import Hall, ask
from tests.server.served import PASSWORD, Browser, Served, pairs


@pytest.mark.parametrize(("key", "title"), [("f", "Flag"), ("n", "Note"), ("s", "Skip")])
def test_a_dialog_keeps_its_words_through_escape_and_reload(hall: Hall, key: str, title: str):
    project = hall.project(pairs(2))
    page = hall.sit(project)
    press(page, key)
    page.locator("#reason").fill("half a thought")
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    press(page, key)
    assert page.locator("#reason").input_value() == "half a thought"
    page.reload()
    page.locator("#deck > *").first.wait_for()
    press(page, key)
    assert page.locator("#reason").input_value() == "half a thought"
    page.locator("#reason").fill("a whole thought")
    page.locator("dialog .button.first").click()
    page.locator("dialog").wait_for(state="detached")
    page.wait_for_timeout(500)
    press(page, key)
    assert page.locator("#reason").input_value() == ""
    said = [e.body.get("reason") or e.body.get("text") for e in project.events()]
    assert "a whole thought" in said


def test_a_reason_of_one_item_is_not_shown_for_another(hall: Hall):
    page = hall.sit(hall.project(pairs(2)))
    press(page, "n")
    page.locator("#reason").fill("about the first")
    page.keyboard.press("Escape")
    press(page, "1")
    page.locator("#status[data-state=saved]").wait_for()
    press(page, "n")
    assert page.locator("#reason").input_value() == ""


def test_what_is_typed_in_a_talk_is_kept(hall: Hall):
    item = {"policies": ["loud"], "rules": [], "opening": ask("Hello")[:0]}
    page = hall.sit(hall.project([item], kind="talk"))
    page.locator("#say").fill("my first wo")
    page.reload()
    page.locator("#say").wait_for()
    assert page.locator("#say").input_value() == "my first wo"


@pytest.fixture
def editing(hall: Hall) -> tuple[Hall, Any, str]:
    """A lead on the settings of a project."""
    project = hall.project(pairs(1), rubric="Be kind.")
    person = hall.made.person(f"Lead{hall.count}")
    project.enrol(person, role="lead")
    page = visitor(hall.browser, hall.faults)
    address = f"{hall.base}/projects/{project.name}/settings"
    page.goto(f"{hall.base}{door(hall.made.site, person)}?next=/projects/{project.name}/settings")
    page.locator("#rubric").wait_for()
    return hall, page, address


def test_a_form_keeps_its_words_through_reload_and_a_lost_session(editing: tuple[Hall, Any, str]):
    _, page, address = editing
    page.locator("#rubric").fill("Be kind, and brief.")
    page.reload()
    page.get_by_text("What you typed here and did not save was kept.").wait_for()
    assert page.locator("#rubric").input_value() == "Be kind, and brief."
    cookies = page.context.cookies()
    page.context.clear_cookies()
    page.get_by_role("button", name="Save").click()
    page.wait_for_load_state()
    assert page.locator("#rubric").count() == 0  # nothing was saved: the session is gone
    page.context.add_cookies(cookies)
    page.goto(address)
    assert page.locator("#rubric").input_value() == "Be kind, and brief."
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    page.goto(address)
    assert page.get_by_text("did not save was kept").count() == 0
    assert page.locator("#rubric").input_value() == "Be kind, and brief."


def test_kept_words_can_be_discarded_and_do_not_hide_what_others_saved(
    editing: tuple[Hall, Any, str],
):
    hall, page, address = editing
    project = hall.made.store.project(address.split("/")[-2])
    page.locator("#rubric").fill("Mine.")
    project.configure({**project.settings.model_dump(mode="json"), "rubric": "Theirs."})
    page.reload()
    page.get_by_text("What is saved has changed since.").wait_for()
    assert page.locator("#rubric").input_value() == "Theirs."
    page.get_by_role("button", name="Put my words back").click()
    assert page.locator("#rubric").input_value() == "Mine."
    page.reload()
    page.get_by_role("button", name="Discard my words").click()
    page.reload()
    assert page.locator("#rubric").input_value() == "Theirs."
    assert page.locator(".kept").count() == 0


def test_a_refused_form_loses_no_word_and_a_password_is_never_kept(editing: tuple[Hall, Any, str]):
    hall, page, address = editing
    page.locator("#rubric").fill("Be brief.")
    page.locator("#raters_per_item").fill("0")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Not saved yet").wait_for()
    page.goto(address)  # away from the answer to the refused form
    assert page.locator("#rubric").input_value() == "Be brief."
    page.goto(f"{hall.base}/me")
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password").fill("quite another one")
    stored = page.evaluate("JSON.stringify(localStorage)")
    assert PASSWORD not in stored
    assert "quite another one" not in stored


def test_times_stand_in_the_viewers_zone_with_its_name(hall: Hall):
    project = hall.project(pairs(1))
    person = hall.made.person(f"Log{hall.count}")
    project.enrol(person, role="lead")
    page = visitor(hall.browser, hall.faults, timezone_id="Asia/Kolkata")
    page.goto(f"{hall.base}{door(hall.made.site, person)}?next=/projects/{project.name}/log")
    time = page.locator("time").first
    assert time.inner_text().endswith(("GMT+5:30", "IST"))
    assert time.get_attribute("title").endswith("UTC")


def test_a_time_says_its_zone_without_a_script(server: Served, lead: Browser):
    assert str(moment(0)) == '<time datetime="1970-01-01T00:00:00Z">01 Jan 1970, 00:00 UTC</time>'
    server.project()
    assert " UTC</time>" in lead.get("/projects/tone/log").text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "no time"),
        (20, "less than a minute"),
        (60, "1 minute"),
        (90 * 60, "90 minutes"),
        (2 * 3600, "2 hours"),
        (9000, "2.5 hours"),
        (100 * 3600, "100 hours"),
    ],
)
def test_lengths_of_time_read_as_people_say_them(seconds: float, said: str):
    assert lasting(seconds) == said


def test_small_numbers_read_well():
    assert [took(s) for s in (0.2, 60, 61, 3600)] == [
        "less than a second", "1 min", "1 min 1 s", "1 h 00 min",
    ]  # fmt: skip
    assert [coefficient(x) for x in (-0.001, -0.124, 0.615)] == ["0.00", "−0.12", "0.61"]


def test_the_overview_says_how_long_as_people_do(server: Served, lead: Browser):
    project = server.project(items=2, raters_per_item=1)
    rater = server.person("Alan")
    project.enrol(rater)
    project.answer(rater, project.next(rater)[0].item_id, {"choice": "tie"}, seconds=5)
    page = lead.get("/projects/tone").text
    assert "less than a minute to go" in page
    assert "about less" not in page
    assert "under 1 min" not in page


def test_a_stalled_project_says_so_to_its_lead(server: Served, lead: Browser):
    project = server.project(items=6, raters_per_item=3)
    for name in ("Alan", "Kurt"):
        project.enrol(server.person(name))
    page = lead.get("/projects/tone").text
    assert "6 items wait for raters who do not exist" in page
