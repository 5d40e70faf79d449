"""Which key does what on the rater's page, and how letters are turned off."""

from __future__ import annotations

from tests.server.chrome import press
from tests.server.hall import Hall, ask, saved, values
from tests.server.served import pairs


def test_enter_sends_what_was_clicked_and_dragged(hall: Hall):
    """It does not mean the control that the mouse was on last."""
    answers = [{"text": text} for text in ("One.", "Two.", "Three.")]
    project = hall.project([{"prompt": ask(), "answers": answers}], kind="rank")
    page = hall.sit(project)
    chip, order = page.locator(".pool .chip").nth(2), page.locator(".order")
    chip.drag_to(order)
    page.get_by_role("button", name="Answer A; press to rank it next").click()
    press(page, "Enter")
    page.get_by_text("Nothing left to do").wait_for()
    (value,) = values(project)
    assert sorted(value["ranks"], key=str) == [0, 1, None]
    project = hall.project([{"prompt": ask(), "steps": ["1 + 1 = 2"]}], kind="steps")
    page = hall.sit(project)
    page.locator(".step").get_by_role("button", name="Good").click()
    press(page, "Enter")
    page.get_by_text("Nothing left to do").wait_for()
    assert values(project) == [{"labels": [1], "reason": ""}]


def test_enter_on_a_control_that_keys_have_reached_is_its_own(hall: Hall):
    answers = [{"text": text} for text in ("One.", "Two.", "Three.")]
    project = hall.project([{"prompt": ask(), "answers": answers}], kind="rank")
    page = hall.sit(project)
    press(page, "1")
    press(page, "2")
    page.locator(".pool .chip").focus()
    page.keyboard.press("Enter")
    page.locator(".order .chip").nth(2).wait_for()
    assert page.evaluate("() => document.activeElement.textContent") == "C"
    page.keyboard.press("Enter")
    page.locator(".pool .chip").wait_for()
    assert values(project) == []


def test_keys_of_one_letter_can_be_turned_off(hall: Hall):
    """Who speaks to the computer types letters unawares (WCAG 2.1.4); buttons and arrows stay."""
    project = hall.project(pairs(4), kind="compare")
    page = hall.sit(project)
    page.get_by_role("button", name="Keys").click()
    assert page.evaluate("() => document.activeElement.textContent") == "Close"
    page.get_by_label("Letters, numbers and signs act by themselves").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    page.locator("#deck > *").first.wait_for()
    for key in ("1", "b", "?"):
        press(page, key)
    assert values(project) == []
    assert page.locator("dialog[open]").count() == 0
    press(page, "ArrowRight")
    saved(page)
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Letters, numbers and signs act by themselves").check()
    page.keyboard.press("Escape")
    press(page, "1")
    assert len(values(project, 2)) == 2
